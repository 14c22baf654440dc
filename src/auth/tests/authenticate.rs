//! From the header to the caller, or to 401, 403, 503.

use super::*;

#[test]
fn the_header_must_bear_a_token() {
    let fault = |header: Option<&str>| token_fault(tokens().authenticate(header, &register(), now()));
    assert_eq!(fault(None), TokenFault::Missing);
    for empty in ["", "  ", "Bearer", "bearer ", "Bearer    "] {
        assert_eq!(fault(Some(empty)), TokenFault::Empty, "{empty:?}");
    }
    for other in ["Basic abc", "abc", "Bearerabc", "Bearer a b"] {
        assert_eq!(fault(Some(other)), TokenFault::Malformed, "{other:?}");
    }
    let token = signed(&claims(json!({})));
    assert!(tokens().authenticate(Some(&format!("bEARER  {token}")), &register(), now()).is_ok());
}

#[test]
fn a_clinician_calls_for_the_organisation_of_the_role() {
    let claims = claims(json!({}));
    let token = signed(&claims);
    let caller = tokens().authenticate(Some(&format!("Bearer {token}")), &register(), now()).unwrap();
    assert_eq!((caller.role, caller.organization.ods.as_str()), (Role::Clinical, "ZZ101"));
    assert!(caller.has_activity(VIEW_FLAG) && !caller.has_activity(VIEW_FLAG_SILENTLY));
    assert_eq!(caller.client_name, "System ed-system");
    assert_eq!(caller.token_tail.len(), 32);
    assert!(token.ends_with(&caller.token_tail));
    let Author::Person(user) = &caller.author else { panic!("not a person") };
    assert_eq!(user.sds_user_id, "555021935107");
    assert_eq!(user.role_profile_id.as_deref(), Some("555254242103"));
    assert_eq!(user.job_role_name.as_deref(), Some("Nurse Access Role"));
}

#[test]
fn a_user_with_two_roles_calls_in_the_selected_one() {
    let roles = json!([
        {"person_roleid": "1", "org_code": "ZZ101", "activity_codes": [VIEW_FLAG]},
        {"person_roleid": "2", "org_code": "ZZ202", "activity_codes": [VIEW_FLAG_SILENTLY]},
    ]);
    let caller = authenticate(&claims(json!({"nhsid_nrbac_roles": roles, "selected_roleid": "2"}))).unwrap();
    assert_eq!(caller.organization.ods.as_str(), "ZZ202");
    assert_eq!(caller.activities, [VIEW_FLAG_SILENTLY]);
    let unselected = authenticate(&claims(json!({"nhsid_nrbac_roles": roles})));
    assert_eq!(token_fault(unselected), TokenFault::IncompleteClaims("selected_roleid"));
}

#[test]
fn a_role_claim_gives_no_role() {
    let caller = authenticate(&claims(json!({"cpis_role": "administrator", "role": "auditor"}))).unwrap();
    assert_eq!(caller.role, Role::Clinical);
}

#[test]
fn an_unattended_client_names_who_answers_for_it() {
    let caller = authenticate(&device_claims(json!({}))).unwrap();
    assert_eq!(caller.organization.ods.as_str(), "ZZ101");
    assert_eq!(caller.activities, [VIEW_FLAG_SILENTLY], "from the registration, not the token");
    let Author::Device { responsible, site } = caller.author else { panic!("not a device") };
    assert_eq!(responsible.name, "Grace Test");
    assert_eq!(site, Some(ods("ZZ1011")));
    // A site that the register doesn't hold is taken as named.
    assert!(authenticate(&device_claims(json!({"cpis_site": "ZZ1019"}))).is_ok());
}

#[test]
fn a_client_without_a_user_is_forbidden_unless_registered_for_it() {
    assert!(forbidden(authenticate(&device_claims(json!({"client_id": "ed-system"})))).contains("no user"));
    let without = forbidden(authenticate(&device_claims(json!({"cpis_responsible_person": null}))));
    assert!(without.contains("cpis_responsible_person"));
    assert!(forbidden(authenticate(&device_claims(json!({"cpis_site": null})))).contains("cpis_site"));
    assert!(forbidden(authenticate(&device_claims(json!({"cpis_site": "ZZ202"})))).contains("cpis_site"));
}

#[test]
fn the_organisation_must_be_registered_and_active() {
    for organization in ["ZZ999", "ZZ888"] {
        let role = json!([{"person_roleid": "1", "org_code": organization, "activity_codes": [VIEW_FLAG]}]);
        let reason = forbidden(authenticate(&claims(json!({"nhsid_nrbac_roles": role}))));
        assert!(reason.contains("not registered"), "{organization}");
    }
}

#[test]
fn other_clients_call_for_their_own_organisation() {
    let system = |id: &str| claims(json!({"client_id": id, "nhsid_nrbac_roles": null}));
    let caller = authenticate(&system("la-system")).unwrap();
    assert_eq!((caller.role, caller.organization.ods.as_str()), (Role::LocalAuthority, "Z9A"));
    assert_eq!(caller.author, Author::System);
    assert_eq!(authenticate(&system("audit-desk")).unwrap().role, Role::Auditor);
    // Somebody signed in at it is named, but stays in the client's organisation.
    let person = authenticate(&claims(json!({"client_id": "la-system"}))).unwrap();
    assert_eq!(person.organization.ods.as_str(), "Z9A");
    assert!(matches!(person.author, Author::Person(_)));
}

#[test]
fn unknown_and_disabled_clients_are_refused_and_a_store_that_is_down_is_neither() {
    assert_eq!(token_fault(authenticate(&claims(json!({"client_id": "nobody"})))), TokenFault::UnknownClient);
    assert_eq!(token_fault(authenticate(&claims(json!({"client_id": "gone"})))), TokenFault::DisabledClient);
    let header = format!("Bearer {}", signed(&claims(json!({}))));
    let down = tokens().authenticate(Some(&header), &Register(None), now());
    assert!(matches!(down, Err(AuthFault::Directory(_))));
    // A bad token is refused without asking the store.
    let forged = format!("{header}x");
    let refused = tokens().authenticate(Some(&forged), &Register(None), now());
    assert!(matches!(refused, Err(AuthFault::Token(_))));
}

#[test]
fn no_text_holds_the_token_or_the_person() {
    let faulty = [
        signed(&claims(json!({"exp": in_seconds(-1)}))),
        signed(&claims(json!({"iss": "urn:stranger"}))),
        signed(&claims(json!({"client_id": "nobody"}))),
        signed(&claims(json!({"selected_roleid": "7"}))),
        signed(&device_claims(json!({"client_id": "ed-system"}))),
        format!("{}x", signed(&claims(json!({})))),
        "secret-token".to_owned(),
    ];
    for token in faulty {
        let fault = tokens().authenticate(Some(&format!("Bearer {token}")), &register(), now()).unwrap_err();
        let text = format!("{fault} {fault:?} {:?}", verify(&token));
        for part in token.split('.').chain(["TESTER", "Grace", "555021935107"]) {
            assert!(!text.contains(part), "{text}");
        }
    }
}
