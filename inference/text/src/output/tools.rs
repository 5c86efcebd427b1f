//! The tools of a request, as far as reading calls needs them: their names, the order of their parameters, and which of
//! those are texts.

use serde_json::Value;

/// Most tools of one request.
const TOOLS_MAX: usize = 512;
/// Longest name of a tool.
const NAME_BYTES_MAX: usize = 256;

/// Why tools cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// Not an object with a `function`, or that without a name.
    #[error(
        "tools[{index}] has no {what}: each tool is {{\"type\": \"function\", \"function\": {{\"name\": …}}}}"
    )]
    Shape { index: usize, what: &'static str },
    /// A name that no format could carry.
    #[error(
        "tools[{index}] is called {name:?}: a name has 1 to 256 of the letters a to z, A to Z, digits, '_', '-' and '.'"
    )]
    Name { index: usize, name: String },
    /// Two of one name.
    #[error("tools[{index}] is called {name:?}, and so is one before it: names must differ")]
    Twice { index: usize, name: String },
    /// Parameters that are no schema, or one of something else than an object.
    #[error("tools[{index}].function.parameters must be a JSON Schema object, and of type object")]
    Parameters { index: usize },
    /// Too many.
    #[error("{count} tools are more than the {TOOLS_MAX} that one request may bring")]
    Many { count: usize },
}

/// A tool that a model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    pub name: String,
    pub description: Option<String>,
    /// The JSON Schema of its arguments; that of any object when the client said none.
    pub parameters: Value,
    /// Whether the client said `strict: false`: a schema that cannot be enforced is then no error, and the arguments are
    /// any object.
    pub loose: bool,
}

/// The tools of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tools(Vec<Tool>);

impl Tools {
    /// Reads definitions as OpenAI and Ollama write them.
    ///
    /// # Errors
    /// When one is no definition, or two have one name.
    pub fn read(definitions: &[Value]) -> Result<Self, ToolError> {
        if definitions.len() > TOOLS_MAX {
            return Err(ToolError::Many { count: definitions.len() });
        }
        let mut tools: Vec<Tool> = Vec::with_capacity(definitions.len());
        for (index, definition) in definitions.iter().enumerate() {
            let function = definition.get("function").and_then(Value::as_object);
            let function = function.ok_or(ToolError::Shape { index, what: "function" })?;
            let name = function.get("name").and_then(Value::as_str);
            let name = name.ok_or(ToolError::Shape { index, what: "function.name" })?.to_owned();
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(letter) {
                let name = name.chars().take(80).collect();
                return Err(ToolError::Name { index, name });
            }
            if tools.iter().any(|tool| tool.name == name) {
                return Err(ToolError::Twice { index, name });
            }
            let parameters = match function.get("parameters") {
                None | Some(Value::Null) => serde_json::json!({"type": "object"}),
                Some(schema @ Value::Object(_)) if takes_objects(schema) => schema.clone(),
                Some(_) => return Err(ToolError::Parameters { index }),
            };
            let description = function.get("description").and_then(Value::as_str).map(str::to_owned);
            let loose = function.get("strict") == Some(&Value::Bool(false));
            tools.push(Tool { name, description, parameters, loose });
        }
        Ok(Self(tools))
    }

    /// The tool of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tool> {
        self.0.iter().find(|tool| tool.name == name)
    }

    /// All of them, in the client's order.
    pub fn iter(&self) -> impl Iterator<Item = &Tool> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Only the tool of that name.
    #[must_use]
    pub fn only(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|tool| tool.name == name).cloned().collect())
    }
}

/// Whether a schema's type leaves objects, which arguments always are.
fn takes_objects(schema: &Value) -> bool {
    match schema.get("type") {
        None => true,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        Some(kind) => kind == "object",
    }
}

impl Tool {
    fn property(&self, name: &str) -> Option<&Value> {
        self.parameters.get("properties")?.get(name)
    }

    /// The name of a parameter by its place.
    pub(super) fn parameter_at(&self, index: usize) -> Option<&str> {
        let properties = self.parameters.get("properties")?.as_object()?;
        properties.keys().nth(index).map(String::as_str)
    }

    /// Whether a parameter is a text, so that a format without quotes means one. What the schema does not know is one.
    pub(super) fn is_text(&self, name: &str) -> bool {
        let Some(property) = self.property(name) else { return true };
        match (property.get("type"), property.get("enum").and_then(Value::as_array)) {
            (Some(Value::String(kind)), _) => kind == "string",
            (Some(Value::Array(kinds)), _) => kinds.iter().all(|kind| kind == "string"),
            (_, Some(values)) => values.iter().all(Value::is_string),
            _ => false,
        }
    }
}
