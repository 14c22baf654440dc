//! An upload: the example, what senders may vary, and everything that is wrong with a record.

use super::*;
use crate::{
    cpis::types::upload::{PlanKey, RecordCode},
    hl7v3::upload::location,
};

#[test]
fn the_example_is_read() {
    let example = fixture("upload.xml");
    let file = UploadFile::open(example.as_bytes()).unwrap();
    let header = file.header().clone();
    assert_eq!((header.number, header.records, header.sender.as_str()), (418, 3, "Z9A"));
    assert_eq!(header.sender_name.as_deref(), Some("WESTMARCH COUNTY COUNCIL"));
    let organization = header.organization.unwrap();
    assert_eq!(organization.duty_phone.as_str(), "01632960999");
    assert_eq!(organization.office_phone.unwrap().as_str(), "01632960100");
    assert_eq!(organization.name.as_deref(), Some("WESTMARCH COUNTY COUNCIL"));
    assert_eq!(header.organization_fault, None);

    let records: Vec<ReadRecord> = file.map(Result::unwrap).collect();
    let [ReadRecord::Change(child), ReadRecord::Change(mother), ReadRecord::Change(deleted)] = records.as_slice()
    else {
        panic!("{records:?}")
    };
    let sent = child.child.as_ref().unwrap();
    assert_eq!(child.nhs_number, number("9990000018"));
    assert_eq!(
        (sent.demographics.family.as_str(), sent.demographics.given.join(" ").as_str()),
        ("Testcase", "Robin Alex")
    );
    assert_eq!((sent.demographics.birth_date, sent.local_id.as_deref()), (day("2017-05-11"), Some("LCS-0042")));
    assert_eq!(
        plans(child),
        [
            (PlanType::ChildProtection, PlanAction::Put { start: day("2026-09-14"), end: None }),
            (PlanType::LookedAfter, PlanAction::Put { start: day("2025-03-01"), end: Some(day("2026-10-30")) }),
        ]
    );
    assert!(child.plans.iter().all(|plan| plan.local_id.is_none() && plan.key == PlanKey::Content));
    assert_eq!(child.plans.iter().map(|plan| plan.entry).collect::<Vec<_>>(), [1, 2]);

    assert_eq!(mother.nhs_number, number("9990000026"));
    assert_eq!(mother.child.as_ref().unwrap().demographics.birth_date, day("1998-02-20"));
    let end = Some(day("2027-01-15"));
    assert_eq!(plans(mother), [(PlanType::Unborn, PlanAction::Put { start: day("2026-08-20"), end })]);
    assert_eq!(plans(deleted), [(PlanType::ChildProtection, PlanAction::Delete { start: Some(day("2026-10-01")) })]);
}

#[test]
fn wrappers_order_prefixes_and_fixed_attributes_do_not_matter() {
    let expected = change(&[CHILD, CPP]);
    let date = |name: &str, value: &str| format!("<c><{name} classCode='OBS'><value value='{value}'/></{name}></c>");
    let template = |content: &str| {
        format!("<COCT_TP146101GB01.CPPInformation classCode='ACT'>{content}</COCT_TP146101GB01.CPPInformation>")
    };
    let plan = template(&date("cPPStartDate", "20260914"));
    let content = "<npfitlc:contentId root='2.16.840.1.113883.2.1.3.2.4.18.16' \
                   extension='COCT_TP146101GB01#CPPInformation'/>";
    let variants: Vec<Vec<String>> = vec![
        // The plan before the subject, numbered associations, more wrappers, none.
        vec![format!("<pertinentInformation15>{plan}</pertinentInformation15>"), CHILD.to_owned()],
        vec![format!(
            "<component4 typeCode='COMP'>{CHILD}<any><pertinentInformation1>{plan}</pertinentInformation1></any></component4>"
        )],
        vec![CHILD.to_owned(), plan.clone()],
        vec![CHILD.to_owned(), format!("<pertinentInformation>{content}{plan}</pertinentInformation>")],
        // The date's value on the date itself; its name in another case; a time behind it.
        vec![CHILD.to_owned(), template("<cPPStartDate value='20260914'/>")],
        vec![CHILD.to_owned(), template(&date("CPPStartDate", "20260914100000+0100"))],
        vec![CHILD.to_owned(), template(&date("cPPStartDate", "20260913233000+0000"))],
        vec![
            CHILD.to_owned(),
            template(&(date("cPPStartDate", " 20260914 ") + "<c><cPPEndDate nullFlavor='NI'/></c>")),
        ],
        // Fixed codes, ids of other kinds, an author.
        vec![
            "<code code='01'/><id root='1.2.3' extension='x'/><author><COCT_TP145102GB01.AssignedAuthor/></author>"
                .to_owned(),
            CHILD.replace("<childPerson>", "<id root='2.16.840.1.113883.2.1.3.2.4.18.23' extension='7'/><childPerson>"),
            CPP.to_owned(),
        ],
        // Roots absent, where they are fixed.
        vec![CHILD.replace("root='2.16.840.1.113883.2.1.4.1' ", ""), CPP.to_owned()],
        // Classes without their template.
        vec![CHILD.replace("COCT_TP145101GB01.", ""), CPP.replace("COCT_TP146101GB01.", "")],
        // Several names; comments, processing instructions and CDATA.
        vec![
            CHILD.replace(
                "<name use='L'>",
                "<name use='PREFERRED'><given>Bob</given><family>Other</family></name><name use='L'>",
            ),
            CPP.to_owned(),
        ],
        vec![
            CHILD
                .replace("Robin", " <!-- a -->Ro<![CDATA[bi]]>&#110;<?x y?> ")
                .replace("<childPerson>", "<childPerson><!-- <birthTime value='19000101'/> -->"),
            format!("<!-- {CPP} -->{CPP}").replace("<!-- <", "<!-- (").replace("'20260914'", "'2026&#48;914'"),
        ],
        vec![CHILD.replace("20170511", "20170511093000+0100"), CPP.to_owned()],
    ];
    for variant in variants {
        let parts: Vec<&str> = variant.iter().map(String::as_str).collect();
        assert_eq!(change(&parts), expected, "{variant:?}");
    }
}

#[test]
fn a_prefix_for_the_namespace_and_another_order_of_the_header_do_not_matter() {
    let example = fixture("upload.xml");
    let expected = read(&example).unwrap();
    let prefixed = example
        .replace("xmlns=\"urn", "xmlns:v3=\"urn")
        .replace("</", "</v3:")
        .replace('<', "<v3:")
        .replace("<v3:/", "</")
        .replace("v3:npfitlc:", "npfitlc:");
    assert_eq!(read(&prefixed).unwrap(), expected);
    let id = "<id extension=\"418\"/>";
    let moved = example.replacen(id, "", 1).replacen("<record>", &format!("{id}<code code=\"01\"/><record>"), 1);
    assert_eq!(read(&moved).unwrap(), expected);
    let squeezed: String = example.lines().map(str::trim).collect();
    assert_eq!(read(&squeezed).unwrap(), expected);
}

#[test]
fn every_encoding_gives_the_same_records() {
    let example = fixture("upload.xml").replace("Wrongly", "Wróngly-Zoë").replace("ó", "é");
    let expected = read(&example).unwrap();
    let utf16 = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    assert_eq!(read([&b"\xEF\xBB\xBF"[..], example.as_bytes()].concat()).unwrap(), expected);
    assert_eq!(read([&b"\xFF\xFE"[..], &utf16(&example)].concat()).unwrap(), expected);
    let declared = format!("<?xml version=\"1.0\" encoding=\"UTF-16\" standalone=\"yes\"?>\n{example}");
    assert_eq!(read([&b"\xFF\xFE"[..], &utf16(&declared)].concat()).unwrap(), expected);
    let latin = format!("<?xml version='1.0' encoding='ISO-8859-1'?>{example}");
    let latin: Vec<u8> = latin.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    assert_eq!(read(&latin).unwrap(), expected);
    // Said to be UTF-8, and isn't.
    let wrong: Vec<u8> = example.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    assert!(fault(&wrong).reason.contains("encoding"));
}

#[test]
fn all_that_is_wrong_with_a_record_is_told_at_once() {
    let child =
        CHILD.replace("9990000018", "999000001X").replace("<family>Testcase</family>", "").replace("0511", "0231");
    let plan = CPP.replace("20260914", "20260931");
    let end = "<component1><lACEndDate><value value=''/></lACEndDate></component1>";
    let care = format!("<p><COCT_TP146100GB01.LACInformation>{end}</COCT_TP146100GB01.LACInformation></p>");
    let unreadable = unreadable(&[&child, &plan, &care]);
    assert_eq!(unreadable.nhs_number, None);
    assert_eq!(
        told(&unreadable.problems),
        [
            ("CPR04", 0, "identifier"),
            ("CPR07", 0, "name"),
            ("CPR07", 0, "birthDate"),
            ("CPR07", 1, "period.start"),
            ("CPR07", 2, "period.end"),
            ("CPR07", 2, "period.start"),
        ]
    );
    let codes = unreadable.problems.iter().map(|problem| problem.code);
    assert_eq!(RecordCode::standing_for(codes), Some(RecordCode::Cpr04));
    for problem in &unreadable.problems {
        assert!(problem.reason.ends_with('.') && !problem.reason.contains("999000001X"), "{}", problem.reason);
    }
}

#[test]
fn numbers_are_judged_by_format_and_check_digit() {
    for text in ["9990000019", "999 000 0018", "ABC1234567", "1111111111", "", "99900000188"] {
        let unreadable = unreadable(&[&CHILD.replace("9990000018", text), CPP]);
        assert_eq!(told(&unreadable.problems), [("CPR04", 0, "identifier")], "{text}");
    }
    let two =
        CHILD.replace("<childPerson>", "<id root='2.16.840.1.113883.2.1.4.1' extension='9990000026'/><childPerson>");
    assert_eq!(told(&unreadable(&[&two, CPP]).problems), [("CPR04", 0, "identifier")]);
    // A number of a record that is refused for another reason is kept with it.
    assert_eq!(unreadable(&[CHILD]).nhs_number, Some(number("9990000018")));
}

#[test]
fn subjects_and_plans_must_fit() {
    let cpp = |id: &str| CPP.replace("COCT_TP146101GB01", id);
    let care = CPP.replace("146101GB01.CPP", "146100GB01.LAC").replace("cPP", "lAC");
    let unborn = CPP.replace("146101GB01.CPP", "146102GB01.UCP").replace("cPP", "uCP");
    let mother = CHILD.replace("COCT_TP145101GB01.Child", "COCT_TP145100GB01.UnbornChild");
    let whole = ("CPR07", 0, "");
    let type_of = |entry| ("CPR07", entry, "code");
    assert_eq!(plans(&change(&[&mother, &unborn])).len(), 1);
    assert_eq!(plans(&change(&[CHILD, CPP, &care])).len(), 2);
    type Told = Vec<(&'static str, usize, &'static str)>;
    let cases: Vec<(Vec<&str>, Told)> = vec![
        (vec![CHILD], vec![whole]),
        (vec![CPP], vec![("CPR04", 0, "identifier")]),
        (vec![CHILD, CHILD, CPP], vec![whole]),
        (vec![CHILD, CPP, CPP], vec![type_of(1), type_of(2)]),
        (vec![CHILD, &unborn], vec![type_of(1)]),
        (vec![CHILD, CPP, &unborn], vec![type_of(2)]),
        (vec![&mother, CPP, &unborn], vec![type_of(1)]),
        (vec![&mother, &care], vec![type_of(1)]),
        (vec![CHILD, CPP, &care, &care, CPP], vec![whole, type_of(1), type_of(2), type_of(3), type_of(4)]),
        (vec![CHILD, CPP, "<pertinentInformation2/>"], vec![type_of(2)]),
        (
            vec![CHILD, CPP, "<x><npfitlc:contentId extension='COCT_TP146101GB01#CPPInformation'/></x>"],
            vec![type_of(2)],
        ),
        (
            vec![CHILD, "<pertinentInformation xmlns='urn:other'><x/></pertinentInformation>", CPP],
            vec![whole, type_of(1)],
        ),
        (vec![CHILD, "<x xmlns='urn:other'/>", CPP], vec![whole]),
        (
            vec![
                CHILD,
                "<communicationFunctionSnd><organisation><id extension='Z9B'/></organisation></communicationFunctionSnd>",
                CPP,
            ],
            vec![whole],
        ),
    ];
    for (content, expected) in cases {
        assert_eq!(told(&unreadable(&content).problems), expected, "{content:?}");
    }
    // Templates of the answer, of another version, and not to be known.
    for id in ["COCT_TP146105GB01", "COCT_TP146101GB02", "COCT_TP999999GB01"] {
        let unreadable = unreadable(&[CHILD, &cpp(id)]);
        assert_eq!(told(&unreadable.problems), [type_of(1)], "{id}");
        assert!(unreadable.problems[0].reason.contains("template"), "{id}");
    }
    let disagreeing = CPP.replace(
        "<pertinentInformation>",
        "<pertinentInformation><npfitlc:contentId extension='COCT_TP146100GB01#LACInformation'/>",
    );
    assert_eq!(told(&unreadable(&[CHILD, &disagreeing]).problems), [type_of(1)]);
    let other_dates = CPP.replace("cPP", "lAC");
    assert_eq!(told(&unreadable(&[CHILD, &other_dates]).problems), [type_of(1), ("CPR07", 1, "period.start")]);
}

#[test]
fn dates_of_plans_must_exist() {
    for text in ["", "2026", "202609", "20260931", "2026-09-14", "20260914T10", "2026091425", "tomorrow"] {
        let unreadable = unreadable(&[CHILD, &CPP.replace("20260914", text)]);
        assert_eq!(told(&unreadable.problems), [("CPR07", 1, "period.start")], "{text}");
    }
    let twice = CPP.replace("<component>", "<component><cPPStartDate value='20260915'/>");
    assert_eq!(told(&unreadable(&[CHILD, &twice]).problems), [("CPR07", 1, "period.start")]);
}

#[test]
fn a_deletion_is_for_now() {
    let deleted = |on: &str| {
        CPP.replace(
            "</component>",
            &format!("</component><component2><cPPDeleteDate><value value='{on}'/></cPPDeleteDate></component2>"),
        )
    };
    for on in ["20260914", "20261103", "20261103235959+0000"] {
        let start = Some(day("2026-09-14"));
        assert_eq!(plans(&change(&[CHILD, &deleted(on)])), [(PlanType::ChildProtection, PlanAction::Delete { start })]);
    }
    for on in ["20260913", "20261104", "20261131", ""] {
        assert_eq!(told(&unreadable(&[CHILD, &deleted(on)]).problems), [("CPR07", 1, "status")], "{on}");
    }
    let undated =
        file_of(&[record(&[CHILD, &deleted("20261103")])]).replace("<creationTime value='20261103021500+0000'/>", "");
    let records = read(&undated).unwrap();
    let [ReadRecord::Unreadable(refused)] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(told(&refused.problems), [("CPR07", 1, "status")]);
}

#[test]
fn local_ids_are_of_the_child_and_of_the_plan_that_they_stand_in() {
    let local = |id: &str| format!("<id root='2.16.840.1.113883.2.1.3.2.4.18.24' extension='{id}'/>");
    let child = CHILD.replace("<childPerson>", &format!("{}<childPerson>", local("LCS-1")));
    let plan = CPP.replace("<component>", &format!("{}<component>", local("P-1")));
    let change = change(&[&child, &plan]);
    assert_eq!(change.child.unwrap().local_id.as_deref(), Some("LCS-1"));
    assert_eq!(change.plans[0].local_id.as_ref().map(|id| id.as_str()), Some("P-1"));
    let long = CHILD.replace("<childPerson>", &format!("{}<childPerson>", local(&"x".repeat(65))));
    assert_eq!(told(&unreadable(&[&long, CPP]).problems), [("CPR07", 0, "identifier")]);
    let two = CHILD.replace("<childPerson>", &format!("{}{}<childPerson>", local("a"), local("b")));
    assert_eq!(told(&unreadable(&[&two, CPP]).problems), [("CPR07", 0, "identifier")]);
}

#[test]
fn a_record_that_can_not_be_read_is_known_again_by_its_content() {
    let digest = |file: &str| match read(file).unwrap().remove(0) {
        ReadRecord::Unreadable(unreadable) => unreadable.digest,
        ReadRecord::Change(change) => panic!("{change:?}"),
    };
    let file = file_of(&[record(&[CHILD])]);
    let spaced = file.replace("><", ">\n  <").replace("Robin", " Robin\n").replace("'", "\"");
    assert_eq!(digest(&file), digest(&spaced));
    let prefixed = file.replace("xmlns=", "xmlns:p=").replace("</", "</p:").replace('<', "<p:").replace("<p:/", "</");
    assert_eq!(digest(&file), digest(&prefixed));
    let other = file.replace("Robin", "Robyn");
    assert_ne!(digest(&file), digest(&other));
    let moved = file.replace("<given>Robin</given><family>Testcase</family>", "<given>RobinTestcase</given><family/>");
    assert_ne!(digest(&file), digest(&moved));
}

#[test]
fn details_of_the_authority_that_can_not_be_read_refuse_only_themselves() {
    let with = |telecom: &str| {
        let file = file_of(&[record(&[CHILD, CPP])]).replace("</organisation>", &format!("{telecom}</organisation>"));
        let file = UploadFile::open(file.as_bytes()).map(|file| (file.header().clone(), file.count()));
        let (header, records) = file.unwrap();
        assert_eq!(records, 1);
        header
    };
    let header = with("<telecom use='EC' value='tel:01632 960999'/><telecom use='WP' value='mailto:x@example.org'/>");
    assert_eq!(
        header.organization.map(|change| (change.duty_phone.as_str().to_owned(), change.office_phone)),
        Some(("01632960999".to_owned(), None))
    );
    for telecom in [
        "<telecom use='EC' value='tel:12'/>",
        "<telecom use='EC' value='01632960999'/><telecom use='WP' value='none'/>",
        "<telecom use='WP' value='01632960100'/>",
        "<telecom use='EC' value='01632960999'/><telecom use='EC' value='01632960998'/>",
    ] {
        let header = with(telecom);
        assert_eq!(header.organization, None, "{telecom}");
        assert!(header.organization_fault.is_some_and(|fault| fault.contains("not stored")), "{telecom}");
    }
    let header = with("");
    assert_eq!((header.organization, header.organization_fault), (None, None));
}

#[test]
fn places_are_those_of_the_canonical_file() {
    let example = fixture("upload.xml");
    // Every step of such a path is an element of the example.
    for (record, entry, element, plan_type) in [
        (1, 0, "birthDate", None),
        (1, 2, "period.end", Some(PlanType::LookedAfter)),
        (2, 1, "period.start", Some(PlanType::Unborn)),
        (3, 1, "status", Some(PlanType::ChildProtection)),
    ] {
        let path = location(record, entry, element, plan_type);
        for step in path.split('/').filter(|step| !step.is_empty()) {
            let name = step.split('[').next().unwrap();
            assert!(example.contains(&format!("<{name}>")) || example.contains(&format!("<{name} ")), "{path}: {name}");
        }
    }
}
