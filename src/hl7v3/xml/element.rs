//! An element with everything in it, as it is looked through.

/// Which namespace an element is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Hl7,
    /// Of `npfitlc:contentId`.
    Localisation,
    Other,
}

/// An element. No `Debug`: it holds what must never reach a log.
pub struct Element {
    pub space: Space,
    /// Without its prefix.
    pub name: String,
    /// Those without a prefix, in their order.
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Element>,
    /// All text directly in it, one after the other.
    pub text: String,
}

impl Element {
    /// The value of an attribute, without white space around it.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(own, _)| own == name).map(|(_, value)| value.trim())
    }

    /// The first child of this name.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.is(name))
    }

    /// True for an HL7 element of this name.
    pub fn is(&self, name: &str) -> bool {
        self.space == Space::Hl7 && self.name == name
    }

    /// All elements below this one, parents before children.
    pub fn below(&self) -> Below<'_> {
        Below { waiting: self.children.iter().rev().collect() }
    }

    /// All HL7 elements of this name below this one.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.below().filter(move |element| element.is(name))
    }

    /// The first HL7 element of this name below this one.
    pub fn first<'a>(&'a self, name: &'a str) -> Option<&'a Self> {
        self.all(name).next()
    }

    /// The text with single spaces; `None` when there is none.
    pub fn words(&self) -> Option<String> {
        let words = self.text.split_whitespace().collect::<Vec<&str>>().join(" ");
        (!words.is_empty()).then_some(words)
    }

    /// `@value` of the element, or of the `value` in it.
    pub fn value(&self) -> Option<&str> {
        self.attribute("value").or_else(|| self.first("value").and_then(|value| value.attribute("value")))
    }

    /// `@extension` of the first `id` with this root below the element.
    pub fn extension(&self, root: &str) -> Option<&str> {
        self.all("id").find(|id| id.attribute("root") == Some(root)).and_then(|id| id.attribute("extension"))
    }
}

/// Walks through what is below an element.
pub struct Below<'a> {
    waiting: Vec<&'a Element>,
}

impl<'a> Iterator for Below<'a> {
    type Item = &'a Element;

    fn next(&mut self) -> Option<&'a Element> {
        let element = self.waiting.pop()?;
        self.waiting.extend(element.children.iter().rev());
        Some(element)
    }
}
