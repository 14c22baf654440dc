//! R4's rules of the resources about children, organisations and accesses.

use super::{Invariant, has, has_any, has_choice, named_types, rule, text};

pub(super) const RULES: &[Invariant] = &[
    rule(
        "pat-1",
        |v| has_any(v, &["name", "telecom", "address", "organization"]),
        "A contact needs a name, a telecom, an address or an organization (pat-1).",
    ),
    rule(
        "cpl-3",
        |v| !has(v, "detail") || !has(v, "reference"),
        "An activity has a detail or a reference, not both (cpl-3).",
    ),
    rule(
        "ctm-1",
        |v| !has(v, "onBehalfOf") || v.get("member").is_none_or(|m| named_types(m).all(|t| t == "Practitioner")),
        "Only a Practitioner takes part on behalf of an organisation (ctm-1).",
    ),
    rule("org-1", |v| has_any(v, &["identifier", "name"]), "An organisation needs an identifier or a name (org-1)."),
    rule("org-2", |v| text(v, "use") != Some("home"), "An organisation's address is never of use home (org-2)."),
    rule("org-3", |v| text(v, "use") != Some("home"), "An organisation's telecom is never of use home (org-3)."),
    rule("sev-1", |v| !has(v, "name") || !has(v, "query"), "An entity has a name or a query, not both (sev-1)."),
    rule(
        "inv-1",
        |v| {
            let given = [has_choice(v, "value"), has(v, "resource"), has(v, "part")];
            given.iter().filter(|given| **given).count() == 1
        },
        "A parameter has exactly one of a value, a resource and parts (inv-1).",
    ),
    rule(
        "bdl-5",
        |v| has_any(v, &["resource", "request", "response"]),
        "An entry needs a resource, a request or a response (bdl-5).",
    ),
    rule(
        "bdl-8",
        |v| text(v, "fullUrl").is_none_or(|url| !url.contains("/_history/")),
        "A fullUrl never names a version (bdl-8).",
    ),
];
