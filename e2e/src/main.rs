//! Runs the cluster scenarios: `forestay-e2e [--list] [names...]`.

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == forestay_e2e::kube_box::INIT_WORD) {
        return forestay_e2e::kube_box::init_main(arguments);
    }
    std::process::ExitCode::SUCCESS
}
