//! The sandbox's issuer: its key file, its tokens, and how it is told from a real one.

use super::*;

fn user() -> User {
    User {
        sds_user_id: "555021935107".to_owned(),
        role_profile_id: Some("555254242103".to_owned()),
        name: "TESTER, Ada (Mrs)".to_owned(),
        job_role_code: Some("R8003".to_owned()),
        job_role_name: Some("Nurse Access Role".to_owned()),
    }
}

#[test]
fn a_sandbox_token_makes_its_caller_until_it_expires() {
    let directory = tempfile::tempdir().unwrap();
    let sandbox = SandboxIssuer::open(directory.path()).unwrap();
    let tokens = Tokens::new(vec![SandboxIssuer::open(directory.path()).unwrap().issuer().unwrap()]).unwrap();
    let Register(Some(clients)) = register() else { panic!("no clients") };
    let (ed, robot, la) = (&clients[0], &clients[1], &clients[3]);
    let (user, organization, site, activities) = (user(), ods("ZZ101"), ods("ZZ1011"), [VIEW_FLAG.to_owned()]);
    let person =
        ResponsiblePerson { name: "Grace Test".to_owned(), role_code: None, role_name: "Lead".to_owned(), phone: None };
    let request = TokenRequest {
        client: ed,
        user: Some(&user),
        responsible: None,
        organization: &organization,
        activities: &activities,
        lifetime_seconds: 600,
    };
    let call = |request: &TokenRequest<'_>, after: i64| {
        let token = sandbox.mint(request, now()).unwrap();
        tokens.authenticate(Some(&format!("Bearer {token}")), &register(), now() + TimeDelta::seconds(after))
    };
    let caller = call(&request, 599).unwrap();
    assert_eq!(caller.author, Author::Person(user.clone()));
    assert_eq!((caller.organization.ods, caller.activities), (organization.clone(), activities.to_vec()));
    assert_eq!(token_fault(call(&request, 600)), TokenFault::Expired);

    let bare = User { role_profile_id: None, job_role_code: None, job_role_name: None, ..user.clone() };
    assert_eq!(call(&TokenRequest { user: Some(&bare), ..request }, 0).unwrap().author, Author::Person(bare.clone()));

    let device = TokenRequest { client: robot, user: None, responsible: Some(&person), organization: &site, ..request };
    let author = Author::Device { responsible: person.clone(), site: Some(site.clone()) };
    assert_eq!(call(&device, 0).unwrap().author, author);
    let system = TokenRequest { client: la, user: None, ..request };
    assert_eq!(call(&system, 0).unwrap().author, Author::System);
}

#[test]
fn the_sandbox_key_is_private_kept_and_known_for_what_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let issuer = SandboxIssuer::open(directory.path()).unwrap();
    let path = directory.path().join(sandbox::FILE);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let key = std::fs::read(&path).unwrap();
    assert_eq!(PKey::private_key_from_pem(&key).unwrap().bits(), 3072);
    SandboxIssuer::open(directory.path()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), key);
    assert_eq!(format!("{issuer:?}"), "SandboxIssuer(..)");

    assert!(
        sandbox::is_sandbox_issuer("urn:cpis-gateway:sandbox")
            && sandbox::is_sandbox_issuer(" URN:cpis-gateway:Sandbox")
    );
    assert!(!sandbox::is_sandbox_issuer(ISSUER));
    assert!(issuer.issuer().unwrap().is_sandbox());
    let disguised = VerifyingKey::from_pem(sandbox::KID, &pem(&RSA)).unwrap();
    assert!(Issuer::new(ISSUER, AUDIENCE, vec![disguised]).unwrap().is_sandbox());
    // A service that doesn't trust the sandbox's issuer refuses its tokens.
    let Register(Some(clients)) = register() else { panic!("no clients") };
    let (organization, user) = (ods("ZZ101"), user());
    let request = TokenRequest {
        client: &clients[0],
        user: Some(&user),
        responsible: None,
        organization: &organization,
        activities: &[],
        lifetime_seconds: 600,
    };
    assert_eq!(verify(&issuer.mint(&request, now()).unwrap()), Err(TokenFault::UnknownIssuer));

    std::fs::write(&path, "not a key").unwrap();
    assert!(matches!(SandboxIssuer::open(directory.path()), Err(sandbox::SandboxFault::Key(_))));
}
