//! The match rule by examples, and its properties.

use proptest::{collection::vec, prelude::*, sample};

use super::*;

fn family_agrees(one: &str, other: &str) -> bool {
    let both = (same_family(one, other), same_family(other, one));
    assert_eq!(both.0, both.1, "{one} {other}");
    both.0
}

fn names(given: &[&str]) -> Vec<String> {
    given.iter().map(|name| (*name).to_owned()).collect()
}

fn given_agrees(sent: &[&str], held: &[&str]) -> bool {
    same_given(&names(sent), &names(held))
}

fn differing(sent: &Demographics, held: &Traced) -> Vec<Part> {
    compare(sent, held).err().unwrap_or_default()
}

fn sent() -> Demographics {
    Demographics {
        family: "Testcase".to_owned(),
        given: names(&["Robin", "Alex"]),
        birth_date: "2017-05-11".parse().unwrap(),
    }
}

fn held() -> Traced {
    let Demographics { family, given, birth_date } = sent();
    Traced { family: Some(family), given, birth_date: Some(birth_date), deceased: false }
}

#[test]
fn spellings_of_one_name_agree() {
    for (one, other) in [
        ("Testcase", "TESTCASE"),
        (" Testcase ", "Testcase"),
        ("O'Brien", "O\u{2019}BRIEN"),
        ("O'Brien", "O\u{b4}Brien"),
        ("O'Brien", "O\u{ff07}Brien"),
        ("O Brien", "OBrien"),
        ("Smith-Jones", "Smith  Jones"),
        ("Smith-Jones", "Smith\u{2013}Jones"),
        ("St. John", "St John"),
        ("St.John", "St-John"),
        ("Mc Donald", "McDonald"),
        // German, Danish, French, Icelandic, Maltese, Sami.
        ("Müller", "Mu\u{308}ller"),
        ("Müller", "Muller"),
        ("Strauß", "STRAUSS"),
        ("STRAUẞ", "strauss"),
        ("Sørensen", "Sorensen"),
        ("Ægidius", "AEGIDIUS"),
        ("L'Hœuillier", "LHOEUILLIER"),
        ("Þorsson", "Thorsson"),
        ("Guðrún", "Gudrun"),
        ("Ħal Għaxaq", "HAL GHAXAQ"),
        ("Ŧŋ", "Tn"),
        // Turkish: four letters i.
        ("İnan", "Inan"),
        ("IŞIK", "ışık"),
        ("Işık", "Isik"),
        // Welsh, Irish, Spanish, Catalan.
        ("Ŵyn Llŷr", "Wyn Llyr"),
        ("Ó Súilleabháin", "O'SUILLEABHAIN"),
        ("Ni\u{301} Dhomhnaill", "Ní Dhomhnaill"),
        ("Núñez", "NUNEZ"),
        ("Gal·la", "Galla"),
        ("Ga\u{140}la", "Galla"),
        // Polish, Czech, Romanian, Croatian.
        ("Łukasiewicz", "Lukasiewicz"),
        ("Wiśniewska-Żak", "Wisniewska Zak"),
        ("Dvořák", "Dvorak"),
        ("Ștefănescu", "Stefanescu"),
        ("Đorđević", "Dordevic"),
        // Vietnamese: marks in any order, one letter or three.
        ("Nguyễn", "Nguyen"),
        ("Nguye\u{302}\u{303}n", "Nguye\u{303}\u{302}n"),
        ("Đặng", "Dang"),
        ("Trương", "Truong"),
        // Hausa, Yoruba, Hawaiian, and Arabic in Latin letters.
        ("Ɗanladi", "Danladi"),
        ("Ƙwari", "Kwari"),
        ("Adébáyọ̀", "Adebayo"),
        ("Kalani\u{2bb}ōpu\u{2bb}u", "Kalaniopuu"),
        ("al-\u{2bf}Arabī", "Al Arabi"),
        // Fullwidth letters and typographic ligatures.
        ("Ｔｅｓｔ", "Test"),
        ("Suﬀolk", "Suffolk"),
        ("Ĳssel", "IJssel"),
        // What can't be seen.
        ("Test\u{ad}case", "Testcase"),
        ("Test\u{200b}case\u{feff}", "Testcase"),
        ("\u{202a}Testcase\u{202c}", "Testcase"),
        ("Test\u{a0}case", "Test case"),
        ("Te\u{34f}\u{301}st", "Test"),
        // Greek, where capitals lack the accents.
        ("Παπαδόπουλος", "ΠΑΠΑΔΟΠΟΥΛΟΣ"),
        ("Иванов", "ИВАНОВ"),
        // A mark that belongs to no letter.
        ("\u{301}Testcase", "Testcase"),
    ] {
        assert!(family_agrees(one, other), "{one} {other}");
        assert!(given_agrees(&[one], &[other]) && given_agrees(&[other], &[one]), "{one} {other}");
    }
}

#[test]
fn different_names_stay_different() {
    for (one, other) in [
        ("Testcase", "Testcass"),
        ("Smith", "Smith-Jones"),
        ("Smith", "Smyth"),
        ("Saint John", "St John"),
        ("McDonald", "MacDonald"),
        // Another spelling is another name: not every ü is written ue.
        ("Müller", "Mueller"),
        ("Sørensen", "Soerensen"),
        ("Đorđević", "Djordjevic"),
        ("Testcase", "Testcase2"),
        ("Testcase1", "Testcase2"),
        ("Test+case", "Testcase"),
        ("Testcase, Jr", "Testcase Jr"),
        // Marks that make other letters, and letters that only look alike.
        ("Андрей", "Андреи"),
        ("\u{915}\u{93f}", "\u{915}\u{93e}"),
        ("\u{915}\u{93f}", "\u{915}"),
        ("Тест", "Tect"),
        ("李", "王"),
        ("", ""),
        (" ", "-"),
        ("Ng", ""),
    ] {
        assert!(!family_agrees(one, other), "{one} {other}");
    }
}

#[test]
fn given_names_agree_by_the_first_check_that_succeeds() {
    for (sent, held) in [
        // 1: the whole.
        (&["Robin"][..], &["Robin"][..]),
        (&["Robin", "Alex"], &["Robin", "Alex"]),
        (&["Robin Alex"], &["Robin", "Alex"]),
        (&["Robin", "Alex"], &["Robin Alex"]),
        (&["Robin-Alex"], &["Robin", "Alex"]),
        (&["RobinAlex"], &["robin  alex"]),
        // 2: the first names.
        (&["Robin"], &["Robin", "Alex"]),
        (&["Robin", "Sky"], &["Robin", "Alex"]),
        (&["Robin Sky"], &["Robin"]),
        // 3: the first name among the registered ones.
        (&["Alex"], &["Robin", "Alex"]),
        (&["Alex", "Robin"], &["Robin Alex"]),
        (&["álex"], &["ROBIN", "ALEX", "SKY"]),
        (&["", "Robin"], &["-", "Robin"]),
    ] {
        assert!(given_agrees(sent, held), "{sent:?} {held:?}");
    }
}

#[test]
fn given_names_that_no_check_accepts_are_refused() {
    for (sent, held) in [
        (&["Sky"][..], &["Robin", "Alex"][..]),
        // Of what was sent only the first name counts.
        (&["Sky", "Robin"], &["Robin", "Alex"]),
        // Neither an initial nor a short form.
        (&["R"], &["Robin"]),
        (&["Rob"], &["Robin"]),
        (&["Robin"], &["R"]),
        // A hyphen makes one name of two.
        (&["Anna-Lena"], &["Anna", "Maria"]),
        (&["Anna-Lena"], &["Anna-Maria"]),
        (&["Anna"], &["Anna-Maria"]),
        // Nobody without a given name matches, not even one of whom none is held.
        (&[], &["Robin"]),
        (&["Robin"], &[]),
        (&[], &[]),
        (&["-"], &[" "]),
    ] {
        assert!(!given_agrees(sent, held), "{sent:?} {held:?}");
    }
}

#[test]
fn every_part_that_differs_is_named() {
    assert_eq!(differing(&sent(), &held()), []);
    let wrong = || Demographics {
        family: "Wrongly".to_owned(),
        given: names(&["Sky"]),
        birth_date: "2017-11-05".parse().unwrap(),
    };
    assert_eq!(differing(&wrong(), &held()), [Part::BirthDate, Part::Family, Part::Given]);
    for (sent, expected) in [
        (Demographics { birth_date: wrong().birth_date, ..sent() }, Part::BirthDate),
        (Demographics { family: wrong().family, ..sent() }, Part::Family),
        (Demographics { given: wrong().given, ..sent() }, Part::Given),
        (Demographics { given: Vec::new(), ..sent() }, Part::Given),
    ] {
        assert_eq!(differing(&sent, &held()), [expected]);
    }
}

#[test]
fn what_is_not_held_agrees_with_nothing() {
    for (held, expected) in [
        (Traced { birth_date: None, ..held() }, &[Part::BirthDate][..]),
        (Traced { family: None, ..held() }, &[Part::Family]),
        (Traced { family: Some(String::new()), ..held() }, &[Part::Family]),
        (Traced { given: Vec::new(), ..held() }, &[Part::Given]),
        (
            Traced { family: None, given: Vec::new(), birth_date: None, deceased: false },
            &[Part::BirthDate, Part::Family, Part::Given],
        ),
    ] {
        assert_eq!(differing(&sent(), &held), expected);
        let unnamed = Demographics { family: String::new(), ..sent() };
        assert!(differing(&unnamed, &held).contains(&Part::Family));
    }
}

/// The three checks one after the other, as domain.md has them.
fn checks(sent: &[String], held: &[String]) -> Option<u8> {
    let split = |names: &[String]| -> Vec<String> {
        let names = names.join(" ").to_lowercase().replace('-', "");
        names.split(' ').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let (sent, held) = (split(sent), split(held));
    if sent.is_empty() || held.is_empty() {
        return None;
    }
    if sent.join("") == held.join("") {
        return Some(1);
    }
    if sent[0] == held[0] {
        return Some(2);
    }
    held.iter().any(|name| *name == sent[0]).then_some(3)
}

fn given() -> impl Strategy<Value = Vec<String>> {
    vec("[abAB]{0,2}[ -]?[abAB]{0,2}", 0..4)
}

/// A name, and the same in another spelling: case, accents, what joins its parts, what can't be seen.
fn spelled_twice() -> impl Strategy<Value = (String, String)> {
    let letter = ("[a-z]", any::<bool>(), sample::select(vec!["", "\u{301}", "\u{308}", "\u{323}\u{302}", "\u{327}"]));
    let joined = sample::select(vec!["", "", "", " ", "-", "'", "\u{2019}", ". ", "\u{ad}", "\u{200b}", "\u{a0}"]);
    vec((letter, joined), 1..12).prop_map(|signs| {
        let mut both = (String::new(), String::new());
        for ((letter, upper, mark), joined) in signs {
            both.0.push_str(&letter);
            both.1.push_str(&if upper { letter.to_uppercase() } else { letter });
            both.1.push_str(mark);
            both.1.push_str(joined);
        }
        both
    })
}

proptest! {
    #[test]
    fn folding_what_is_folded_changes_nothing(name in any::<String>()) {
        let once = fold(&name);
        prop_assert_eq!(fold(&once), once);
    }

    #[test]
    fn folding_leaves_no_name_between_its_forms(name in "\\PC{0,12}") {
        let composed: String = name.nfc().collect();
        let decomposed: String = name.nfd().collect();
        prop_assert_eq!(fold(&composed), fold(&decomposed));
    }

    #[test]
    fn spellings_agree_both_ways_round((plain, other) in spelled_twice()) {
        prop_assert!(family_agrees(&plain, &other));
        let (one, other) = (vec![plain], vec![other]);
        // Where white space makes two names of one, the whole still agrees.
        prop_assert!(same_given(&one, &other) && same_given(&other, &one));
    }

    #[test]
    fn a_family_name_agrees_both_ways_or_not_at_all(one in "[A-Ca-c' -]{0,6}", other in "[A-Ca-c' -]{0,6}") {
        family_agrees(&one, &other);
    }

    #[test]
    fn another_letter_is_another_name(name in "[a-z]{1,8}", at in any::<sample::Index>(), letter in "[a-z0-9]") {
        let at = at.index(name.len());
        let other = format!("{}{letter}{}", &name[..at], &name[at + 1..]);
        prop_assert_eq!(family_agrees(&name, &other), name == other);
        prop_assert_eq!(given_agrees(&[&name], &[&other]), name == other);
        let longer = format!("{}{letter}{}", &name[..at], &name[at..]);
        prop_assert!(!family_agrees(&name, &longer) && !given_agrees(&[&name], &[&longer]));
    }

    #[test]
    fn given_names_agree_as_the_checks_in_their_order_say(sent in given(), held in given()) {
        prop_assert_eq!(same_given(&sent, &held), checks(&sent, &held).is_some(), "{:?} {:?}", sent, held);
    }

    #[test]
    fn how_given_names_are_spread_over_elements_does_not_count(sent in given(), held in given(), at in any::<sample::Index>()) {
        let together = vec![sent.join(" ")];
        let at = at.index(sent.len() + 1);
        let parted = vec![sent[..at].join(" "), sent[at..].join("\u{a0}")];
        let agrees = same_given(&sent, &held);
        prop_assert_eq!(same_given(&together, &held), agrees);
        prop_assert_eq!(same_given(&parted, &held), agrees);
        prop_assert_eq!(same_given(&sent, &[held.join(" ")]), agrees);
    }
}
