//! Where in an upload a problem lies, as an `XPath` (`acknowledgementRecordDetail/location`).

use super::template::{PlanDate, names};
use crate::cpis::types::{PlanType, upload::SUBJECT_ENTRY};

/// The `XPath` of a problem: `record` counted from 1, `entry` and `element` as a problem has them. Where the type of the plan
/// isn't known, the place in it is given by position.
pub fn location(record: usize, entry: usize, element: &str, plan_type: Option<PlanType>) -> String {
    let root = format!("/File/record[{record}]/CP-ISRecord");
    if entry == SUBJECT_ENTRY {
        let below = match element {
            "name" => "//name",
            "name.family" => "//name/family",
            "name.given" => "//name/given",
            "birthDate" => "//birthTime",
            _ => "",
        };
        return format!("{root}/subject{below}");
    }
    let plan = format!("{root}/pertinentInformation[{entry}]");
    let date = PlanDate::ALL.into_iter().find(|date| date.element() == element);
    match (date, plan_type) {
        (None, _) if element == "subject" => format!("{root}/subject"),
        (None, None) => plan,
        (None, Some(plan_type)) => format!("{plan}/{}", names(plan_type).1),
        (Some(date), None) => format!("{plan}/*/{}/*", date.component()),
        (Some(date), Some(plan_type)) => {
            format!("{plan}/{}/{}/{}", names(plan_type).1, date.component(), date.name(plan_type))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_lies_at_its_element() {
        let cpp = Some(PlanType::ChildProtection);
        for (entry, element, plan_type, expected) in [
            (0, "", None, "/File/record[2]/CP-ISRecord/subject"),
            (0, "identifier", None, "/File/record[2]/CP-ISRecord/subject"),
            (0, "birthDate", None, "/File/record[2]/CP-ISRecord/subject//birthTime"),
            (0, "name.family", None, "/File/record[2]/CP-ISRecord/subject//name/family"),
            (0, "name.given", None, "/File/record[2]/CP-ISRecord/subject//name/given"),
            (1, "", cpp, "/File/record[2]/CP-ISRecord/pertinentInformation[1]/COCT_TP146101GB01.CPPInformation"),
            (
                1,
                "period.start",
                cpp,
                "/File/record[2]/CP-ISRecord/pertinentInformation[1]/COCT_TP146101GB01.CPPInformation/component/cPPStartDate",
            ),
            (3, "period.end", None, "/File/record[2]/CP-ISRecord/pertinentInformation[3]/*/component1/*"),
            (3, "subject", None, "/File/record[2]/CP-ISRecord/subject"),
            (3, "code", None, "/File/record[2]/CP-ISRecord/pertinentInformation[3]"),
        ] {
            assert_eq!(location(2, entry, element, plan_type), expected);
        }
    }
}
