//! `$ref` inside one document: JSON pointers and anchors, to one flat list of definitions. What lies elsewhere is refused;
//! nothing is ever fetched.

use std::collections::HashMap;
use std::collections::VecDeque;

use serde_json::Value;

use super::{Path, REFERENCES_MAX, Reading};
use crate::grammar::error::GrammarError;

/// Where references lead, and what of it is still to be rewritten.
pub(super) struct References<'s> {
    root: &'s Value,
    /// `$anchor` and the old `$id: "#name"` to their schemas.
    anchors: HashMap<&'s str, (&'s Value, String)>,
    names: HashMap<(String, Reading), String>,
    waiting: VecDeque<Definition<'s>>,
}

/// A schema that something refers to.
pub(super) struct Definition<'s> {
    pub(super) name: String,
    pub(super) target: &'s Value,
    pub(super) pointer: String,
    pub(super) reading: Reading,
}

impl<'s> References<'s> {
    pub(super) fn new(root: &'s Value) -> Result<Self, GrammarError> {
        let mut anchors = HashMap::new();
        // Anchors are found by a walk over everything that might be a schema: a value of `const` that looks like one
        // only adds a name which nobody uses.
        let mut todo = vec![(root, String::new())];
        while let Some((value, pointer)) = todo.pop() {
            if pointer.len() > 4_000 {
                continue;
            }
            match value {
                Value::Object(map) => {
                    let id = map.get("$id").and_then(Value::as_str).and_then(|id| id.strip_prefix('#'));
                    for name in map.get("$anchor").and_then(Value::as_str).into_iter().chain(id) {
                        if anchors.insert(name, (value, pointer.clone())).is_some() {
                            return Err(Path::at(&pointer).invalid("$anchor", "the name is used twice"));
                        }
                    }
                    let steps = map.iter().filter(|(_, value)| value.is_object() || value.is_array());
                    todo.extend(steps.map(|(key, value)| (value, format!("{pointer}/{}", escaped(key)))));
                }
                Value::Array(items) => {
                    let steps = items.iter().enumerate().filter(|(_, value)| value.is_object());
                    todo.extend(steps.map(|(index, value)| (value, format!("{pointer}/{index}"))));
                }
                _ => {}
            }
        }
        Ok(Self { root, anchors, names: HashMap::new(), waiting: VecDeque::new() })
    }

    /// The schema that a reference names, and its pointer.
    pub(super) fn target(&self, reference: &str, path: &Path) -> Result<(&'s Value, String), GrammarError> {
        let refuse = |why: &str| Err(path.unsupported("$ref", why));
        let Some(fragment) = reference.strip_prefix('#') else {
            return refuse("only references into the same document are (\"#/$defs/…\"); nothing is fetched");
        };
        let Some(fragment) = percent_decoded(fragment) else {
            return Err(path.invalid("$ref", "its percent escapes are broken"));
        };
        if fragment.is_empty() || fragment == "/" {
            return Ok((self.root, String::new()));
        }
        if fragment.starts_with('/') {
            return match self.root.pointer(&fragment) {
                Some(target) => Ok((target, fragment)),
                None => Err(path.invalid("$ref", "it leads to nothing")),
            };
        }
        match self.anchors.get(fragment.as_str()) {
            Some((target, pointer)) => Ok((target, pointer.clone())),
            None => Err(path.invalid("$ref", "it names an anchor that is not there")),
        }
    }

    /// The name under which the target of a pointer will stand in `$defs`.
    pub(super) fn name(
        &mut self,
        target: &'s Value,
        pointer: String,
        reading: Reading,
    ) -> Result<String, GrammarError> {
        if let Some(name) = self.names.get(&(pointer.clone(), reading)) {
            return Ok(name.clone());
        }
        let found = self.names.len() + 1;
        if found > REFERENCES_MAX {
            let (what, limit) = ("the number of definitions in the schema", REFERENCES_MAX);
            return Err(GrammarError::TooLarge { what, found, limit });
        }
        let name = format!("d{found}");
        self.names.insert((pointer.clone(), reading), name.clone());
        self.waiting.push_back(Definition { name: name.clone(), target, pointer, reading });
        Ok(name)
    }

    /// The next definition to rewrite.
    pub(super) fn next(&mut self) -> Option<Definition<'s>> {
        self.waiting.pop_front()
    }
}

fn escaped(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

/// A fragment of a URL as the pointer that it stands for.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
            bytes.push(digit(rest.next()?)? * 16 + digit(rest.next()?)?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_found() {
        let root = json!({
            "$defs": {"a/b": {"type": "null"}, "c~d": [{"type": "string"}], "e f": {"$anchor": "here"}},
        });
        let references = References::new(&root).unwrap();
        let check = |reference: &str, pointer: &str| {
            let (target, found) = references.target(reference, &Path::default()).unwrap();
            assert_eq!(found, pointer);
            assert_eq!(Some(target), root.pointer(pointer));
        };
        check("#", "");
        check("#/", "");
        check("#/$defs/a~1b", "/$defs/a~1b");
        check("#/$defs/c~0d/0", "/$defs/c~0d/0");
        check("#/$defs/e%20f", "/$defs/e f");
        check("#here", "/$defs/e f");
        let refused =
            |reference: &str| references.target(reference, &Path::default()).unwrap_err().to_string();
        assert!(refused("http://example.com/schema").contains("nothing is fetched"));
        assert!(refused("other.json#/a").contains("nothing is fetched"));
        assert!(refused("#/$defs/none").contains("leads to nothing"));
        assert!(refused("#nowhere").contains("anchor"));
        assert!(refused("#%zz").contains("percent"));
    }
}
