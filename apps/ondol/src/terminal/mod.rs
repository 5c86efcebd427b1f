//! What the user sees and types: messages, tables, progress, the prompt. Commands use these; nothing here knows a
//! command, a model or a server.

pub(crate) mod failure;
pub(crate) mod help;
pub(crate) mod interrupt;
pub(crate) mod korean;
pub(crate) mod messages;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod prompt;
pub(crate) mod table;
pub(crate) mod units;
pub(crate) mod wrap;
