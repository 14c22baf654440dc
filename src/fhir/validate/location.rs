//! From a JSON pointer to the `FHIRPath` of the same element.

use serde_json::Value;

use crate::fhir::json::is_element_name;

/// Elements with a choice of types in what has a schema here: in `FHIRPath` `valueString` is `value`.
pub(super) const CHOICES: [&str; 18] = [
    "value",
    "deceased",
    "multipleBirth",
    "occurred",
    "scheduled",
    "product",
    "author",
    "bounds",
    "asNeeded",
    "dose",
    "rate",
    "subject",
    "timing",
    "defaultValue",
    "fixed",
    "pattern",
    "minValue",
    "maxValue",
];

/// The datatypes that a choice is of, but for the primitives.
const TYPES: &str = "Address Age Annotation Attachment CodeableConcept Coding ContactDetail ContactPoint Contributor Count \
    DataRequirement Distance Dosage Duration Expression HumanName Identifier Meta Money ParameterDefinition Period Quantity Range \
    Ratio Reference RelatedArtifact SampledData Signature Timing TriggerDefinition UsageContext";
const PRIMITIVES: &str = "Base64Binary Boolean Canonical Code Date DateTime Decimal Id Instant Integer Markdown Oid PositiveInt \
    String Time UnsignedInt Uri Url Uuid";

/// True if the element `key` is `name[x]`, such as `valueString` of `value`; `valueSet` is not.
pub(super) fn is_choice_of(key: &str, name: &str) -> bool {
    let kind = key.strip_prefix(name).filter(|kind| kind.starts_with(|c: char| c.is_ascii_uppercase()));
    kind.is_some_and(|kind| [TYPES, PRIMITIVES].iter().any(|names| names.split(' ').any(|known| known == kind)))
}

/// An element of a resource.
pub(super) struct Place<'a> {
    /// `FHIRPath` from the root's name on.
    pub expression: String,
    pub value: Option<&'a Value>,
    parent: Option<&'a Value>,
    grandparent: Option<&'a Value>,
    /// Last two steps of the pointer.
    last: String,
    before_last: String,
}

impl<'a> Place<'a> {
    /// The element at `pointer` in `resource`, whose own `FHIRPath` is `root`.
    pub fn of(pointer: &str, resource: &'a Value, root: &str) -> Self {
        let mut place = Self {
            expression: root.to_owned(),
            value: Some(resource),
            parent: None,
            grandparent: None,
            last: String::new(),
            before_last: String::new(),
        };
        let mut nameable = true;
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match place.value {
                Some(Value::Array(list)) => {
                    if nameable {
                        place.expression.push_str(&format!("[{step}]"));
                    }
                    step.parse::<usize>().ok().and_then(|index| list.get(index))
                }
                value => {
                    nameable = nameable && is_element_name(&step);
                    if nameable {
                        place.expression = place.child(&step);
                    }
                    value.and_then(|v| v.get(&step))
                }
            };
            place.grandparent = place.parent;
            place.parent = place.value;
            place.value = next;
            place.before_last = std::mem::replace(&mut place.last, step);
        }
        place
    }

    /// `FHIRPath` of a child. The extensions of a primitive (`_name`) are children of the primitive itself.
    pub fn child(&self, name: &str) -> String {
        let name = name.strip_prefix('_').unwrap_or(name);
        let choice = CHOICES.into_iter().find(|choice| is_choice_of(name, choice));
        format!("{}.{}", self.expression, choice.unwrap_or(name))
    }

    /// `FHIRPath` of an element that R4 does not know, as it was sent; of the parent, when the name could be anything.
    pub fn unknown_child(&self, name: &str) -> String {
        if is_element_name(name) { format!("{}.{name}", self.expression) } else { self.expression.clone() }
    }

    /// True if the absent primitive `name` has extensions: R4 then counts it as given.
    pub fn has_primitive_extension(&self, name: &str) -> bool {
        self.value.and_then(|v| v.get(format!("_{name}"))).is_some_and(Value::is_object)
    }

    /// True for a null in a list of primitives whose place is held by an extension.
    pub fn is_null_beside_extension(&self) -> bool {
        let is_null = self.value.is_some_and(Value::is_null) && self.parent.is_some_and(Value::is_array);
        let index = self.last.parse::<usize>().ok();
        let extensions = self.grandparent.and_then(|object| object.get(format!("_{}", self.before_last)));
        let beside = index.and_then(|index| extensions?.get(index));
        is_null && beside.is_some_and(Value::is_object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pointers_become_fhirpath() {
        let resource = json!({
            "name": [{"given": ["a", null], "_given": [null, {"extension": []}]}],
            "deceasedBoolean": true, "_birthDate": {"extension": [{"url": "x"}]}, "9990000018": {"a": 1}
        });
        for (pointer, expected) in [
            ("", "Patient"),
            ("/name/0/given/1", "Patient.name[0].given[1]"),
            ("/deceasedBoolean", "Patient.deceased"),
            ("/_birthDate/extension/0/url", "Patient.birthDate.extension[0].url"),
            ("/9990000018/a", "Patient"),
        ] {
            assert_eq!(Place::of(pointer, &resource, "Patient").expression, expected);
        }
        assert!(Place::of("/name/0/given/1", &resource, "Patient").is_null_beside_extension());
        assert!(!Place::of("/name/0/given/0", &resource, "Patient").is_null_beside_extension());
        assert_eq!(Place::of("", &resource, "Patient").unknown_child("9990000018"), "Patient");
    }
}
