//! What a test runner's output says: how many tests passed and failed, and why.

use regex::Regex;

/// Numbers of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Tally {
    /// One check that is not a test runner.
    pub(crate) fn check(good: bool) -> Self {
        Self { passed: u64::from(good), failed: u64::from(!good), skipped: 0 }
    }

    /// Sums the closing lines of cargo's test runs, and of the scenario runner (`N passed, N failed, N skipped`).
    pub(crate) fn of(output: &str) -> Self {
        let mut sum = Self::default();
        let Ok(closing) = Regex::new(
            r"(?m)^(?:test result: \w+\. )?(\d+) passed[;,] (\d+) failed(?:[;,] (\d+) (?:ignored|skipped))?",
        ) else {
            return sum;
        };
        for line in closing.captures_iter(output) {
            let number =
                |group: usize| line.get(group).and_then(|number| number.as_str().parse().ok()).unwrap_or_default();
            sum += Self { passed: number(1), failed: number(2), skipped: number(3) };
        }
        sum
    }
}

impl std::fmt::Display for Tally {
    /// The plain closing line that any tool understands.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 { write!(f, ", {} skipped", self.skipped) } else { Ok(()) }
    }
}

/// How many lines of each failure are told: the first, and of a scenario the last as well, which say what the mesh's programs
/// and Kubernetes warned of.
const TOLD: usize = 10;
const TOLD_LAST: usize = 17;
/// How the last line of a scenario's failure begins.
const COLLECTED: &str = "     collected: ";

/// The tests that failed, with the first lines of what each said.
///
/// cargo's runner says it after `---- name stdout ----`, up to the backtrace; the scenario runner in `FAIL name: ...` and
/// the lines that are indented below it.
pub(crate) fn failures(output: &str) -> Vec<Vec<String>> {
    let mut failures: Vec<Vec<String>> = Vec::new();
    let mut inside = false;
    for line in output.lines() {
        if let Some(name) = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----")) {
            failures.push(vec![name.to_owned()]);
            inside = true;
        } else if line.starts_with("FAIL ") {
            failures.push(vec![line.to_owned()]);
            inside = true;
        } else if line == "stack backtrace:" || line == "failures:" || line.starts_with("ok ") {
            inside = false;
        } else if inside
            && !line.trim().is_empty()
            && let Some(failure) = failures.last_mut()
        {
            failure.push(format!("  {line}"));
            inside = !line.starts_with(COLLECTED);
        }
    }
    for failure in &mut failures {
        let last = if failure.first().is_some_and(|line| line.starts_with("FAIL ")) { TOLD_LAST } else { 0 };
        if failure.len() > TOLD + last {
            let left_out = (last > 0).then(|| "       ...".to_owned());
            failure.splice(TOLD..failure.len() - last, left_out);
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::{TOLD, TOLD_LAST, Tally, failures};

    #[test]
    fn closing_lines_of_every_runner_are_summed() {
        let output = "running 3 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
                      text 9 passed, 9 failed\n\
                      test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n\
                      10 passed, 2 failed\n7 passed, 0 failed, 3 skipped\n";
        assert_eq!(Tally::of(output), Tally { passed: 23, failed: 3, skipped: 4 });
        assert_eq!(Tally::of("error: could not compile"), Tally::default());
    }

    #[test]
    fn the_closing_line_is_plain() {
        assert_eq!(Tally { passed: 3, failed: 0, skipped: 0 }.to_string(), "3 passed, 0 failed");
        assert_eq!(Tally { passed: 3, failed: 1, skipped: 2 }.to_string(), "3 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn failures_have_names_and_reasons() {
        let output = "test a::b ... ok\ntest a::c ... FAILED\n\nfailures:\n\n---- a::c stdout ----\n\nthread 'a::c' panicked at x.rs:1:2:\n\
                      left is not right\nstack backtrace:\n   0: rust_begin_unwind\n\nfailures:\n    a::c\n\n\
                      ok   install/ready (1.0 s)\nFAIL install/gone (12.1 s): it is not\n     collected: /tmp/x\nok   install/x (0.1 s)\nnoise\n";
        assert_eq!(
            failures(output),
            [
                vec!["a::c", "  thread 'a::c' panicked at x.rs:1:2:", "  left is not right"],
                vec!["FAIL install/gone (12.1 s): it is not", "       collected: /tmp/x"],
            ]
        );
    }

    #[test]
    fn of_a_long_failure_the_first_lines_are_told_and_of_a_scenario_the_last() {
        let described = (1..=40).fold(String::new(), |all, line| format!("{all}     described {line}\n"));
        let scenario =
            format!("FAIL install/gone (12.1 s): it is not\n{described}     collected: /tmp/x\n    of the next\n");
        let told = failures(&scenario).concat();
        assert_eq!(told.len(), TOLD + 1 + TOLD_LAST);
        assert_eq!(told[9..12], ["       described 9", "       ...", "       described 25"]);
        assert_eq!(told.last().unwrap(), "       collected: /tmp/x");

        let test = format!("---- a::c stdout ----\n{described}stack backtrace:\n");
        assert_eq!(failures(&test).concat().len(), TOLD);
    }
}
