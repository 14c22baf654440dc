//! A search parameter as a row: what it is called, which elements it looks at, what it may be sent with. Routing, search,
//! the `CapabilityStatement`, the published `SearchParameter`s and the OpenAPI document all read these rows.

/// R4's types of search parameter (`http://hl7.org/fhir/search-param-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Token,
    Reference,
    Date,
    String,
    Uri,
    /// Shapes the result instead of selecting resources.
    Special,
}

impl Kind {
    pub fn code(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Reference => "reference",
            Self::Date => "date",
            Self::String => "string",
            Self::Uri => "uri",
            Self::Special => "special",
        }
    }
}

/// Whose definition a parameter follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definition {
    /// R4's own, by the last segment of its canonical.
    R4(&'static str),
    /// NHS England's (domain.md, Patient Flag API), by the last segment.
    England(&'static str),
    /// R4 lacks it: published by this server as `SearchParameter/{Type}-{name}`.
    Own,
    /// Not a search parameter but a result parameter.
    None,
}

/// One parameter of one search.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub kind: Kind,
    /// Elements that it looks at, below the resource, as `FHIRPath` child accessors.
    pub paths: &'static [&'static str],
    /// Modifiers it may carry, with their mark; chains are spelled `.identifier`.
    pub modifiers: &'static [&'static str],
    /// The only values there are (a required binding, the known includes); empty: any.
    pub values: &'static [&'static str],
    /// The code system of an element of type `code`.
    pub system: Option<&'static str>,
    pub definition: Definition,
    /// Said in the `CapabilityStatement` and the OpenAPI document.
    pub about: &'static str,
}

impl Parameter {
    const fn of(
        name: &'static str,
        kind: Kind,
        paths: &'static [&'static str],
        modifiers: &'static [&'static str],
        definition: Definition,
        about: &'static str,
    ) -> Self {
        Self { name, kind, paths, modifiers, values: &[], system: None, definition, about }
    }

    pub const fn token(
        name: &'static str,
        paths: &'static [&'static str],
        definition: Definition,
        about: &'static str,
    ) -> Self {
        Self::of(name, Kind::Token, paths, &[":not", ":missing"], definition, about)
    }

    pub const fn reference(
        name: &'static str,
        paths: &'static [&'static str],
        definition: Definition,
        about: &'static str,
    ) -> Self {
        Self::of(name, Kind::Reference, paths, &[":identifier", ".identifier", ":missing"], definition, about)
    }

    pub const fn date(
        name: &'static str,
        paths: &'static [&'static str],
        definition: Definition,
        about: &'static str,
    ) -> Self {
        Self::of(name, Kind::Date, paths, &[":missing"], definition, about)
    }

    pub const fn string(
        name: &'static str,
        paths: &'static [&'static str],
        definition: Definition,
        about: &'static str,
    ) -> Self {
        Self::of(name, Kind::String, paths, &[":exact", ":contains", ":missing"], definition, about)
    }

    pub const fn uri(
        name: &'static str,
        paths: &'static [&'static str],
        definition: Definition,
        about: &'static str,
    ) -> Self {
        Self::of(name, Kind::Uri, paths, &[":missing"], definition, about)
    }

    /// A parameter that shapes the result.
    pub const fn special(name: &'static str, about: &'static str) -> Self {
        Self::of(name, Kind::Special, &[], &[], Definition::None, about)
    }

    #[must_use]
    pub const fn with_modifiers(self, modifiers: &'static [&'static str]) -> Self {
        Self { modifiers, ..self }
    }

    /// Only these values are known.
    #[must_use]
    pub const fn one_of(self, values: &'static [&'static str]) -> Self {
        Self { values, ..self }
    }

    /// The code system of its element, which is a plain `code`.
    #[must_use]
    pub const fn in_system(self, system: &'static str) -> Self {
        Self { system: Some(system), ..self }
    }

    /// True for what selects resources, as opposed to shaping the result.
    pub fn selects(&self) -> bool {
        self.kind != Kind::Special
    }

    /// The elements as a `FHIRPath` expression.
    pub fn expression(&self, resource: &str) -> String {
        self.paths.iter().map(|path| format!("{resource}.{path}")).collect::<Vec<_>>().join(" | ")
    }

    /// Canonical of its definition; none for what shapes the result.
    pub fn canonical(&self, resource: &str, base_url: &str) -> Option<String> {
        match self.definition {
            Definition::R4(name) => Some(format!("http://hl7.org/fhir/SearchParameter/{name}")),
            Definition::England(name) => Some(format!("https://fhir.nhs.uk/England/SearchParameter/{name}")),
            Definition::Own => Some(format!("{base_url}/SearchParameter/{resource}-{}", self.name)),
            Definition::None => None,
        }
    }
}

pub const ID: Parameter = Parameter::token("_id", &["id"], Definition::R4("Resource-id"), "Logical id");
pub const LAST_UPDATED: Parameter = Parameter::date(
    "_lastUpdated",
    &["meta.lastUpdated"],
    Definition::R4("Resource-lastUpdated"),
    "When this version was made",
);
