//! The templates in a record: whom it is about, and the plans. Found by their names, below whatever wrappers.

use crate::{
    cpis::types::PlanType,
    hl7v3::xml::{Element, Space},
};

/// What a template in a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    Child,
    /// Of an unborn child: it names the mother.
    UnbornChild,
    Plan(PlanType),
    /// None that an upload has.
    Unknown,
}

const TEMPLATES: [(Template, &str, &str); 5] = [
    (Template::Child, "COCT_TP145101GB01", "Child"),
    (Template::UnbornChild, "COCT_TP145100GB01", "UnbornChild"),
    (Template::Plan(PlanType::ChildProtection), "COCT_TP146101GB01", "CPPInformation"),
    (Template::Plan(PlanType::LookedAfter), "COCT_TP146100GB01", "LACInformation"),
    (Template::Plan(PlanType::Unborn), "COCT_TP146102GB01", "UCPInformation"),
];

/// Templates of an author, who is not part of a record.
const AUTHORS: [&str; 2] = ["COCT_TP145102GB01", "COCT_TP145104GB01"];

impl Template {
    fn of_id(id: &str) -> Self {
        TEMPLATES.into_iter().find(|(_, own, _)| *own == id).map_or(Self::Unknown, |(template, ..)| template)
    }

    /// What an element is, by its name `<template>.<class>`, or by the class alone; `None` for any other element.
    fn of(element: &Element) -> Option<Self> {
        if element.space != Space::Hl7 {
            return None;
        }
        let id = element.name.split('.').next().unwrap_or_default();
        if id.starts_with("COCT_TP") {
            return Some(Self::of_id(id)).filter(|_| !AUTHORS.contains(&id));
        }
        TEMPLATES.into_iter().find(|(.., class)| *class == element.name).map(|(template, ..)| template)
    }

    pub fn is_plan(self) -> bool {
        matches!(self, Self::Plan(_) | Self::Unknown)
    }
}

/// The template's id and its class, as they are written.
pub fn names(plan_type: PlanType) -> (&'static str, &'static str, &'static str) {
    match plan_type {
        PlanType::ChildProtection => {
            ("COCT_TP146101GB01", "COCT_TP146101GB01.CPPInformation", "COCT_TP146101GB01#CPPInformation")
        }
        PlanType::LookedAfter => {
            ("COCT_TP146100GB01", "COCT_TP146100GB01.LACInformation", "COCT_TP146100GB01#LACInformation")
        }
        PlanType::Unborn => {
            ("COCT_TP146102GB01", "COCT_TP146102GB01.UCPInformation", "COCT_TP146102GB01#UCPInformation")
        }
    }
}

/// A date of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanDate {
    Start,
    End,
    Delete,
}

impl PlanDate {
    pub const ALL: [Self; 3] = [Self::Start, Self::End, Self::Delete];

    /// Its element's name.
    pub fn name(self, plan_type: PlanType) -> &'static str {
        match (self, plan_type) {
            (Self::Start, PlanType::ChildProtection) => "cPPStartDate",
            (Self::End, PlanType::ChildProtection) => "cPPEndDate",
            (Self::Delete, PlanType::ChildProtection) => "cPPDeleteDate",
            (Self::Start, PlanType::LookedAfter) => "lACStartDate",
            (Self::End, PlanType::LookedAfter) => "lACEndDate",
            (Self::Delete, PlanType::LookedAfter) => "lACDeleteDate",
            (Self::Start, PlanType::Unborn) => "uCPStartDate",
            (Self::End, PlanType::Unborn) => "uCPEndDate",
            (Self::Delete, PlanType::Unborn) => "uCPDeleteDate",
        }
    }

    /// The element around it.
    pub fn component(self) -> &'static str {
        match self {
            Self::Start => "component",
            Self::End => "component1",
            Self::Delete => "component2",
        }
    }

    /// The word for it in problems.
    pub fn element(self) -> &'static str {
        match self {
            Self::Start => "period.start",
            Self::End => "period.end",
            Self::Delete => "status",
        }
    }
}

/// A template of a record.
pub struct Found<'a> {
    pub template: Template,
    pub element: &'a Element,
    /// False when `npfitlc:contentId` beside it names another one.
    pub agrees: bool,
}

/// All templates of a record, in their order. A place that should hold one but holds none that is known counts as
/// [`Template::Unknown`].
pub fn find(record: &Element) -> Vec<Found<'_>> {
    let mut found = Vec::new();
    find_in(record, &mut found);
    found
}

fn find_in<'a>(element: &'a Element, found: &mut Vec<Found<'a>>) {
    let content_id = element.children.iter().find(|child| child.space != Space::Hl7 && child.name == "contentId");
    let content_id = content_id.and_then(|content| content.attribute("extension"));
    let named = content_id.map(|id| Template::of_id(id.split('#').next().unwrap_or_default()));
    let before = found.len();
    for child in &element.children {
        match Template::of(child) {
            Some(template) => {
                let agrees = named.is_none_or(|named| named == template);
                found.push(Found { template, element: child, agrees });
            }
            None => find_in(child, found),
        }
    }
    let holds_a_plan = element.name.starts_with("pertinentInformation") || named.is_some_and(Template::is_plan);
    if found.len() == before && holds_a_plan {
        found.push(Found { template: Template::Unknown, element, agrees: true });
    }
}
