//! FHIR R4 datatypes, as far as CP-IS reads or writes them. What is not read here is judged by the schemas
//! (`schemas/`) and then dropped: a record is the facts that CP-IS stores, not the text that came.
//! <https://hl7.org/fhir/R4/datatypes.html>

use super::date::{DateTime, Instant};

/// True for what FHIR leaves out of JSON: nothing, an empty text, an empty list.
pub(crate) fn absent<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A text, or nothing when it is empty: FHIR has no empty texts.
pub(crate) fn given(text: &str) -> Option<String> {
    if text.trim().is_empty() { None } else { Some(text.to_owned()) }
}

/// Defines serde structs in FHIR's shape: camelCase, absent elements left out, `Debug` masked because any element
/// may hold personal data.
macro_rules! fhir_struct {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $kind:ty,)* }) => {
        #[derive(Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        $(#[$meta])*
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(skip_serializing_if = "crate::fhir::datatype::absent")]
                pub $field: $kind,
            )*
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}
pub(crate) use fhir_struct;

fhir_struct! {
    /// Of an extension only the kinds of value that CP-IS uses are kept.
    Extension {
        url: String,
        extension: Vec<Extension>,
        value_string: Option<String>,
        value_code: Option<String>,
        value_unsigned_int: Option<u32>,
        value_positive_int: Option<u32>,
        value_reference: Option<Reference>,
        value_codeable_concept: Option<CodeableConcept>,
    }
}

fhir_struct! {
    /// What stands in `_name` beside a primitive element.
    Element {
        extension: Vec<Extension>,
    }
}

fhir_struct! {
    Meta {
        version_id: Option<String>,
        last_updated: Option<Instant>,
        profile: Vec<String>,
        tag: Vec<Coding>,
    }
}

fhir_struct! {
    Coding {
        system: Option<String>,
        version: Option<String>,
        code: Option<String>,
        display: Option<String>,
    }
}

impl Coding {
    pub fn new(system: &str, code: &str) -> Self {
        Self { system: Some(system.to_owned()), code: Some(code.to_owned()), ..Self::default() }
    }

    pub fn displayed(system: &str, code: &str, display: &str) -> Self {
        Self { display: given(display), ..Self::new(system, code) }
    }

    pub fn is(&self, system: &str, code: &str) -> bool {
        self.system.as_deref() == Some(system) && self.code.as_deref() == Some(code)
    }
}

fhir_struct! {
    CodeableConcept {
        coding: Vec<Coding>,
        text: Option<String>,
    }
}

impl CodeableConcept {
    pub fn text(text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..Self::default() }
    }

    /// The code of the first coding of that system.
    pub fn code_of(&self, system: &str) -> Option<&str> {
        self.coding.iter().find(|c| c.system.as_deref() == Some(system)).and_then(|c| c.code.as_deref())
    }
}

impl From<Coding> for CodeableConcept {
    fn from(coding: Coding) -> Self {
        Self { coding: vec![coding], text: None }
    }
}

fhir_struct! {
    Period {
        start: Option<DateTime>,
        end: Option<DateTime>,
    }
}

fhir_struct! {
    Identifier {
        extension: Vec<Extension>,
        r#use: Option<String>,
        system: Option<String>,
        value: Option<String>,
        period: Option<Period>,
        /// Boxed: the two types hold each other.
        assigner: Option<Box<Reference>>,
    }
}

impl Identifier {
    pub fn new(system: &str, value: &str) -> Self {
        Self { system: Some(system.to_owned()), value: Some(value.to_owned()), ..Self::default() }
    }

    /// An identifier whose system is nobody's: client ids, request ids.
    pub fn local(value: &str) -> Self {
        Self { value: Some(value.to_owned()), ..Self::default() }
    }

    /// The value, if the identifier is of that system.
    pub fn value_of(&self, system: &str) -> Option<&str> {
        if self.system.as_deref() == Some(system) { self.value.as_deref() } else { None }
    }
}

fhir_struct! {
    Reference {
        reference: Option<String>,
        #[serde(rename = "type")]
        target_type: Option<String>,
        identifier: Option<Identifier>,
        display: Option<String>,
    }
}

impl Reference {
    /// A reference relative to the base, such as `CarePlan/{id}`.
    pub fn to(resource_type: &str, id: &str) -> Self {
        Self { reference: Some(format!("{resource_type}/{id}")), ..Self::default() }
    }

    pub fn identified(identifier: Identifier) -> Self {
        Self { identifier: Some(identifier), ..Self::default() }
    }

    pub fn named(display: &str) -> Self {
        Self { display: given(display), ..Self::default() }
    }

    #[must_use]
    pub fn with_identifier(self, identifier: Identifier) -> Self {
        Self { identifier: Some(identifier), ..self }
    }

    #[must_use]
    pub fn with_display(self, display: &str) -> Self {
        Self { display: given(display), ..self }
    }

    /// The id, if the reference is to that type: relative, or absolute below any base; a version is cut off.
    pub fn id_of(&self, resource_type: &str) -> Option<&str> {
        let text = self.reference.as_deref()?;
        let text = text.split_once("/_history/").map_or(text, |(before, _)| before);
        let (before, id) = text.rsplit_once('/')?;
        let found = before.rsplit('/').next()?;
        (found == resource_type && !id.is_empty()).then_some(id)
    }
}

fhir_struct! {
    HumanName {
        r#use: Option<String>,
        text: Option<String>,
        family: Option<String>,
        given: Vec<String>,
        prefix: Vec<String>,
        suffix: Vec<String>,
    }
}

fhir_struct! {
    ContactPoint {
        system: Option<String>,
        value: Option<String>,
        r#use: Option<String>,
    }
}

impl ContactPoint {
    pub fn phone(value: &str, usage: &str) -> Self {
        Self { system: Some("phone".to_owned()), value: Some(value.to_owned()), r#use: Some(usage.to_owned()) }
    }
}

fhir_struct! {
    Annotation {
        time: Option<DateTime>,
        text: String,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_element() {
        let name = HumanName { family: Some("Testcase".to_owned()), ..HumanName::default() };
        assert_eq!(format!("{name:?}"), "HumanName(..)");
    }

    #[test]
    fn ids_are_read_from_relative_absolute_and_versioned_references() {
        let id = |text: &str| {
            let reference = Reference { reference: Some(text.to_owned()), ..Reference::default() };
            reference.id_of("Patient").map(str::to_owned)
        };
        assert_eq!(id("Patient/9990000018").as_deref(), Some("9990000018"));
        assert_eq!(id("https://example.org/r4/Patient/9990000018/_history/2").as_deref(), Some("9990000018"));
        for other in ["Group/1", "Patient/", "9990000018", "#p", "", "XPatient/1"] {
            assert_eq!(id(other), None, "{other}");
        }
    }
}
