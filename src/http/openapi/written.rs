//! JSON text whose members stand as people expect them: the type of a resource first, not in the order of the alphabet.

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

/// The members that come first, in this order; the others follow by name.
const FIRST: &[&str] = &[
    "openapi",
    "info",
    "servers",
    "tags",
    "paths",
    "resourceType",
    "id",
    "meta",
    "type",
    "total",
    "link",
    "fullUrl",
    "resource",
    "status",
    "severity",
    "system",
    "code",
    "summary",
    "start",
];

struct InOrder<'a>(&'a Value);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(members) => {
                let place = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
                let mut members: Vec<(&String, &Value)> = members.iter().collect();
                members.sort_by_key(|(name, _)| (place(name), *name));
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, &InOrder(value))?;
                }
                map.end()
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(InOrder)),
            other => other.serialize(serializer),
        }
    }
}

/// # Errors
/// Never for a [`Value`]; the writer's signature has one.
pub fn text(value: &Value) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&InOrder(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_type_of_a_resource_comes_first() {
        let text = text(&json!({"entry": [{"b": 1, "resourceType": "Flag"}], "resourceType": "Bundle"})).unwrap();
        let expected = r#"{"resourceType":"Bundle","entry":[{"resourceType":"Flag","b":1}]}"#;
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
