//! Go's template syntax, within bounds.
//!
//! The engine is the crate `gotmpl`. What is added here: functions that we lack are refused by name when the template is
//! read, not when a pod needs it; templates that invoke each other in a circle are refused; and there are limits to the
//! size of text and result, the turns of loops, the work of one pass and the size of a value, so that no template can
//! hold up admission.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::AssertUnwindSafe;

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, Parser, PipeNode, SmolStr};
use gotmpl::{Template, TemplateError, Value};

use super::{blocks, functions};
use crate::inject::values::Text;

const LARGEST_TEXT: usize = 256 << 10;
const LARGEST_RESULT: usize = 1 << 20;
const MOST_TURNS: u64 = 10_000;
/// Nodes of the template, those of templates that it invokes counted at each invocation. Istio's sidecar has 700.
const MOST_NODES: u64 = 10_000;
/// How deep templates may invoke each other.
const DEEPEST: usize = 50;
/// The whole text, among the names of those that it defines.
const WHOLE: &str = "\0";

/// A template that was read and found fit to run.
pub(crate) struct GoTemplate {
    name: String,
    template: Template,
}

impl std::fmt::Debug for GoTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GoTemplate({})", self.name)
    }
}

impl GoTemplate {
    /// Reads a template; the error says where and what.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        if text.len() > LARGEST_TEXT {
            return Err(format!("it is longer than {LARGEST_TEXT} bytes"));
        }
        blocks::check(text)?;
        contained(|| Self::read(name, text))
    }

    fn read(name: &str, text: &str) -> Result<Self, String> {
        let read = |error: TemplateError| error.to_string();
        let parser = Parser::with_name(Some(name), text, "{{", "}}").map_err(read)?;
        let (mut tree, defines) = parser.parse().map_err(read)?;
        let mut trees = BTreeMap::new();
        for define in defines {
            // As in Go, an empty definition does not take the place of another.
            if !define.body.is_empty_tree() || !trees.contains_key(&define.name) {
                trees.insert(define.name, define.body);
            }
        }
        methods_in(&mut tree);
        trees.values_mut().for_each(methods_in);
        let mut check = Check { trees: &trees, costs: BTreeMap::new(), path: Vec::new() };
        let cost = check.list(&tree)?;
        if cost > MOST_NODES {
            return Err(format!("it has {cost} steps; {MOST_NODES} is the most"));
        }
        // What nobody invokes has to be right as well.
        for name in trees.keys() {
            check.invoked(name, 0)?;
        }
        let mut template = Template::new(name).max_range_iters(MOST_TURNS).funcs(functions::all());
        for (define, tree) in &trees {
            template = template.add_parse_tree(define, tree.clone());
        }
        Ok(Self { name: name.to_owned(), template: template.add_parse_tree(WHOLE, tree) })
    }

    /// Runs the template over its data; the result is text within bounds.
    pub(crate) fn run(&self, data: &Value, environment: &BTreeMap<String, Text>) -> Result<String, String> {
        contained(|| {
            let mut result = Bounded(String::new());
            functions::within_bounds(environment, || self.template.execute_template_fmt(&mut result, WHOLE, data))
                .map_err(|error| match error {
                    TemplateError::Write => format!("it writes more than {LARGEST_RESULT} bytes"),
                    TemplateError::RangeIterLimit => format!("its loops take more than {MOST_TURNS} turns"),
                    other => other.to_string(),
                })?;
            Ok(result.0)
        })
    }
}

/// The engine is not ours, and what it is given is a person's text: should it panic, that is the template's refusal and
/// not the webhook's end.
fn contained<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("the template engine gave up".to_owned()))
}

struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > LARGEST_RESULT {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// Walks what was parsed: unknown functions, circles, and how many steps there are.
struct Check<'a> {
    trees: &'a BTreeMap<SmolStr, ListNode>,
    costs: BTreeMap<SmolStr, u64>,
    path: Vec<SmolStr>,
}

impl Check<'_> {
    fn list(&mut self, list: &ListNode) -> Result<u64, String> {
        list.nodes.iter().try_fold(1_u64, |sum, node| Ok(sum.saturating_add(self.node(node)?)))
    }

    fn node(&mut self, node: &Node) -> Result<u64, String> {
        match node {
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => Ok(1),
            Node::Action(action) => self.pipe(&action.pipe),
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => self.branch(branch),
            Node::List(list) => self.list(list),
            Node::Template(invoked) => {
                let own = invoked.pipe.as_ref().map_or(Ok(1), |pipe| self.pipe(pipe))?;
                Ok(own.saturating_add(self.invoked(&invoked.name, invoked.pos.line)?))
            }
        }
    }

    fn invoked(&mut self, name: &SmolStr, line: usize) -> Result<u64, String> {
        if let Some(cost) = self.costs.get(name) {
            return Ok(*cost);
        }
        if self.path.contains(name) {
            return Err(format!("line {line}: template \"{name}\" invokes itself, which is not allowed here"));
        }
        let trees = self.trees;
        let tree = trees.get(name).ok_or_else(|| format!("line {line}: template \"{name}\" is not defined"))?;
        if self.path.len() == DEEPEST {
            return Err(format!("line {line}: template \"{name}\" is invoked more than {DEEPEST} levels deep"));
        }
        self.path.push(name.clone());
        let cost = self.list(tree)?;
        self.path.pop();
        self.costs.insert(name.clone(), cost);
        Ok(cost)
    }

    fn branch(&mut self, branch: &BranchNode) -> Result<u64, String> {
        let otherwise = branch.else_body.as_ref().map_or(Ok(0), |body| self.list(body))?;
        let own = self.pipe(&branch.pipe)?.saturating_add(self.list(&branch.body)?);
        Ok(own.saturating_add(otherwise))
    }

    fn pipe(&mut self, pipe: &PipeNode) -> Result<u64, String> {
        pipe.commands.iter().try_fold(1_u64, |sum, command| Ok(sum.saturating_add(self.command(command)?)))
    }

    fn command(&mut self, command: &CommandNode) -> Result<u64, String> {
        command.args.iter().try_fold(1_u64, |sum, argument| Ok(sum.saturating_add(self.expression(argument)?)))
    }

    fn expression(&mut self, expression: &Expr) -> Result<u64, String> {
        match expression {
            Expr::Identifier(at, name) if !functions::is_known(name) => Err(format!(
                "line {}: function \"{name}\" is not available; the guide to injection lists those that are",
                at.line
            )),
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.expression(inner),
            _ => Ok(1),
        }
    }
}

/// Istio's templates call methods of its configuration, such as `.ProxyConfig.InterceptionMode.String` or
/// `.ProxyConfig.GetTracing`; here they are fields.
fn methods_in(list: &mut ListNode) {
    for node in &mut list.nodes {
        match node {
            Node::Action(action) => methods_in_pipe(&mut action.pipe),
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                methods_in_pipe(&mut branch.pipe);
                methods_in(&mut branch.body);
                branch.else_body.iter_mut().for_each(methods_in);
            }
            Node::List(list) => methods_in(list),
            Node::Template(invoked) => invoked.pipe.iter_mut().for_each(methods_in_pipe),
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
}

fn methods_in_pipe(pipe: &mut PipeNode) {
    for expression in pipe.commands.iter_mut().flat_map(|command| &mut command.args) {
        methods_in_expression(expression);
    }
}

fn methods_in_expression(expression: &mut Expr) {
    match expression {
        Expr::Field(_, fields) | Expr::Variable(_, _, fields) => without_methods(fields),
        Expr::Pipe(_, pipe) => methods_in_pipe(pipe),
        Expr::Chain(_, inner, _) => methods_in_expression(inner),
        _ => {}
    }
}

fn without_methods(fields: &mut Vec<SmolStr>) {
    let Some(start) = fields.iter().position(|field| matches!(field.as_str(), "ProxyConfig" | "MeshConfig")) else {
        return;
    };
    let names = fields.split_off(start + 1);
    fields.extend(names.into_iter().filter(|name| !matches!(name.as_str(), "String" | "GetValue" | "Value")).map(
        |name| match name.strip_prefix("Get") {
            Some(field) if !field.is_empty() => SmolStr::new(field),
            _ => name,
        },
    ));
}
