//! Running a template inside bounds. minijinja counts instructions, but some make values of any size in one step
//! (`"x" * n`, `a ~ a`, literal text into a `set` block); so the compiled instructions are rewritten, and before
//! each of those stands a call that charges the budget with what the step is about to make.
//!
//! This is what minijinja's `unstable_machinery` is used for, and nothing else; the version is pinned for it.
//! Rendering runs on a thread of its own with a stack that the deepest values a template can build with its fuel
//! cannot exhaust when they are dropped.

use minijinja::machinery::{self, CompiledTemplate, Instruction, Instructions, TemplateConfig};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};

use super::budget::{Budget, EXHAUSTED, size};
use super::error::TemplateError;
use super::functions;
use super::prepare;
use super::python;

/// Longest prompt that a template may write.
pub(super) const OUTPUT_BYTES_MAX: usize = 8 << 20;
/// Bytes that one rendering may make in all: so many, and so many for each byte of the conversation, since templates
/// pass a text through several variables before they write it.
const BUDGET_BYTES: u64 = 12 << 20;
const BUDGET_PER_BYTE: u64 = 32;
/// Instructions that one rendering may run, and how many more for each message or tool.
const FUEL: u64 = 300_000;
const FUEL_PER_ITEM: u64 = 10_000;
const STACK_BYTES: usize = 128 << 20;
/// Longest message of an error.
const MESSAGE_BYTES_MAX: usize = 1000;
/// Nested macro calls, loops and the like.
const RECURSION_MAX: usize = 300;
const NAME: &str = "chat_template";

/// Checks that a prepared source compiles.
pub(super) fn check(source: &str) -> Result<(), TemplateError> {
    on_large_stack(|| {
        compile(source).map(drop).map_err(|error| TemplateError::Compile { message: text_of(&error) })
    })
}

/// Renders a prepared `source` with `context`; `items` is how many messages and tools the fuel must last for.
pub(super) fn render(
    source: &str,
    context: &serde_json::Value,
    items: usize,
    globals: &functions::Globals,
) -> Result<String, TemplateError> {
    on_large_stack(|| {
        let budget = Budget::new(BUDGET_BYTES + BUDGET_PER_BYTE * text_bytes(context));
        let environment = environment(&budget, items, globals);
        let mut template =
            compile(source).map_err(|error| TemplateError::Compile { message: text_of(&error) })?;
        template.instructions = guarded(&template.instructions, source);
        for block in template.blocks.values_mut() {
            *block = guarded(block, source);
        }
        let mut text = String::new();
        let result = {
            let mut output = machinery::make_string_output(&mut text);
            let root = python::value_of(context);
            let (code, blocks) = (&template.instructions, &template.blocks);
            machinery::eval(&environment, code, root, blocks, &mut output, AutoEscape::None).map(drop)
        };
        match result {
            Ok(()) if text.len() > OUTPUT_BYTES_MAX => {
                Err(TemplateError::Limit { what: "its output is too long" })
            }
            Ok(()) => Ok(text),
            Err(error) => Err(explain(&error)),
        }
    })
}

/// Bytes of all text in a value.
fn text_bytes(value: &serde_json::Value) -> u64 {
    match value {
        serde_json::Value::String(text) => text.len() as u64,
        serde_json::Value::Array(items) => items.iter().map(text_bytes).sum(),
        serde_json::Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() as u64 + text_bytes(value)).sum()
        }
        _ => 8,
    }
}

fn on_large_stack<T: Send>(
    work: impl FnOnce() -> Result<T, TemplateError> + Send,
) -> Result<T, TemplateError> {
    let failed = |message: &str| TemplateError::Render { message: message.to_owned() };
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("template".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|_| failed("no thread can be started for it"))?
            .join()
            .unwrap_or_else(|_| Err(failed("the template engine panicked; please report the template")))
    })
}

/// As `transformers` sets Jinja2 up.
pub(super) fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

fn compile(source: &str) -> Result<CompiledTemplate<'_>, Error> {
    let config = TemplateConfig {
        syntax_config: syntax()?,
        default_auto_escape: std::sync::Arc::new(|_: &str| AutoEscape::None),
    };
    CompiledTemplate::new(NAME, source, &config)
}

fn environment(budget: &Budget, items: usize, globals: &functions::Globals) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL + FUEL_PER_ITEM * items as u64));
    environment.set_recursion_limit(RECURSION_MAX);
    environment.add_global(prepare::ONE, 1);
    functions::register(&mut environment, budget, globals);
    let formatter = budget.clone();
    environment.set_formatter(move |out, _, value| {
        let text;
        let text = match value.as_str() {
            Some(text) => {
                formatter.charge(text.len() as u64)?;
                text
            }
            None => {
                text = formatter.text_of(value)?;
                &text
            }
        };
        out.write_str(text).map_err(|_| Error::new(ErrorKind::WriteFailure, "cannot write"))
    });
    for guard in Guard::ALL {
        let budget = budget.clone();
        environment.add_function(guard.name(), move |_: &State, operands: Rest<Value>| {
            guard.charge(&budget, &operands)?;
            // `UnpackList` puts the first of the list on top.
            Ok::<_, Error>(Value::from(operands.iter().rev().cloned().collect::<Vec<_>>()))
        });
    }
    environment
}

/// Steps that can make or walk something large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    Add,
    Multiply,
    Concat,
    Contains,
    Slice,
    Compare,
}

impl Guard {
    const ALL: [Self; 6] =
        [Self::Add, Self::Multiply, Self::Concat, Self::Contains, Self::Slice, Self::Compare];

    /// A name that no template can write.
    const fn name(self) -> &'static str {
        match self {
            Self::Add => "\0add",
            Self::Multiply => "\0multiply",
            Self::Concat => "\0concat",
            Self::Contains => "\0contains",
            Self::Slice => "\0slice",
            Self::Compare => "\0compare",
        }
    }

    const fn of(instruction: &Instruction<'_>) -> Option<(Self, u16)> {
        Some(match instruction {
            Instruction::Add => (Self::Add, 2),
            Instruction::Mul => (Self::Multiply, 2),
            Instruction::StringConcat => (Self::Concat, 2),
            Instruction::In => (Self::Contains, 2),
            Instruction::Slice => (Self::Slice, 4),
            Instruction::Eq | Instruction::Ne | Instruction::CompareAndPreserve(_) => (Self::Compare, 2),
            Instruction::Lt | Instruction::Lte | Instruction::Gt | Instruction::Gte => (Self::Compare, 2),
            _ => return None,
        })
    }

    fn charge(self, budget: &Budget, operands: &[Value]) -> Result<(), Error> {
        let large =
            |value: &Value| !matches!(value.kind(), ValueKind::Number | ValueKind::Bool | ValueKind::None);
        match (self, operands) {
            (Self::Multiply, [a, b]) => {
                let (value, times) = if large(a) { (a, b) } else { (b, a) };
                match times.as_usize().filter(|_| large(value)) {
                    Some(times) => budget.charge_times(size(value)?, times as u64),
                    None => Ok(()),
                }
            }
            (Self::Concat, [a, b]) => {
                // The step itself prints both; printing them here first charges for what it will print.
                for value in [a, b].into_iter().filter(|value| large(value)) {
                    match value.as_str() {
                        Some(text) => budget.charge(text.len() as u64)?,
                        None => drop(budget.text_of(value)?),
                    }
                }
                Ok(())
            }
            (Self::Compare, [a, b]) if !(large(a) && large(b)) => Ok(()),
            (Self::Compare, [a, b]) => budget.charge(size(a)?.min(size(b)?)),
            (Self::Contains, [_, within]) => budget.charge_walk(within),
            (_, operands) => {
                operands.iter().filter(|value| large(value)).try_for_each(|value| budget.charge_walk(value))
            }
        }
    }
}

/// The same instructions with guards before the steps that need one, and literal text sent through the formatter,
/// which charges for it. Jumps are moved to where their targets went.
fn guarded<'s>(instructions: &Instructions<'s>, source: &'s str) -> Instructions<'s> {
    let old = || (0..).map_while(|index| instructions.get(index));
    let mut moved = Vec::new();
    let mut at: u32 = 0;
    for instruction in old() {
        moved.push(at);
        at += match instruction {
            Instruction::EmitRaw(_) => 2,
            other if Guard::of(other).is_some() => 3,
            _ => 1,
        };
    }
    moved.push(at);
    let target = |old: u32| moved.get(old as usize).copied().unwrap_or(at);
    let mut new = Instructions::new(NAME, source);
    for (index, instruction) in old().enumerate() {
        let line = instructions.get_line(index as u32).unwrap_or(0) as u16;
        let mut add = |instruction| {
            new.add_with_line(instruction, line);
        };
        if let Some((guard, operands)) = Guard::of(instruction) {
            add(Instruction::CallFunction(guard.name(), Some(operands)));
            add(Instruction::UnpackList(usize::from(operands)));
        }
        if let Instruction::EmitRaw(text) = instruction {
            add(Instruction::LoadConst(Value::from(*text)));
        }
        add(match instruction {
            Instruction::EmitRaw(_) => Instruction::Emit,
            Instruction::Iterate(to) => Instruction::Iterate(target(*to)),
            Instruction::Jump(to) => Instruction::Jump(target(*to)),
            Instruction::JumpIfFalse(to) => Instruction::JumpIfFalse(target(*to)),
            Instruction::JumpIfFalseOrPop(to) => Instruction::JumpIfFalseOrPop(target(*to)),
            Instruction::JumpIfTrueOrPop(to) => Instruction::JumpIfTrueOrPop(target(*to)),
            Instruction::BuildMacro(name, to, flags) => Instruction::BuildMacro(name, target(*to), *flags),
            other => other.clone(),
        });
    }
    new
}

/// The cause that tells most, as our error.
fn explain(error: &Error) -> TemplateError {
    if let Some(message) = functions::refusal(error) {
        return TemplateError::Refused { message: shortened(message) };
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(inner) = inner.downcast_ref::<Error>() {
            if inner.kind() == ErrorKind::OutOfFuel {
                return TemplateError::Limit { what: "it runs too many steps" };
            }
            if inner.detail() == Some(EXHAUSTED) {
                return TemplateError::Limit { what: EXHAUSTED };
            }
        }
        cause = inner.source();
    }
    TemplateError::Render { message: text_of(error) }
}

/// An error and its causes in one line. Names and messages in it are the template's, and may be of any length.
fn text_of(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    shortened(text)
}

fn shortened(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
        text.push('…');
    }
    text
}
