//! Whether demographics as sent agree with those traced for the number (domain.md 3): birth date and family name.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

use super::types::{
    child::{Demographics, Traced},
    upload::RecordCode,
};

/// Compares what an authority sent with what was traced for the NHS number: the birth dates must be equal, the family
/// names equal once folded (case, accents, and how the parts of a name are joined don't count).
///
/// # Errors
/// [`RecordCode::Cpr03`] when they differ. It doesn't say which: that would tell what is on file.
pub fn compare(sent: &Demographics, traced: &Traced) -> Result<(), RecordCode> {
    let family = fold(&sent.family);
    let traced_family = traced.family.as_deref().map(fold);
    let agree = traced.birth_date == Some(sent.birth_date) && !family.is_empty() && traced_family == Some(family);
    if agree { Ok(()) } else { Err(RecordCode::Cpr03) }
}

/// A name reduced to what is compared: compatibility decomposition without its marks, in lower case, letters that have
/// no decomposition spelled out (ø as o, ß as ss), and without spaces, hyphens, apostrophes and full stops, which
/// registers write differently (O'Brien, O Brien; Smith-Jones, Smith Jones; St. John, St John).
fn fold(name: &str) -> String {
    let letters = name.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase);
    let mut folded = String::with_capacity(name.len());
    for letter in letters.filter(|c| !joins(*c)) {
        match letter {
            'ß' => folded.push_str("ss"),
            'æ' => folded.push_str("ae"),
            'œ' => folded.push_str("oe"),
            'þ' => folded.push_str("th"),
            'ø' => folded.push('o'),
            'đ' | 'ð' => folded.push('d'),
            'ł' => folded.push('l'),
            'ħ' => folded.push('h'),
            'ı' => folded.push('i'),
            other => folded.push(other),
        }
    }
    folded
}

/// White space, hyphens and dashes, apostrophes and what is typed for them, full stops.
fn joins(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ad}'
                | '\'' | '`' | '\u{b4}' | '\u{2bb}' | '\u{2bc}' | '\u{2018}'..='\u{201b}' | '\u{2032}'
                | '.' | '\u{200b}'..='\u{200d}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn person(family: &str, birth_date: &str) -> Demographics {
        Demographics {
            family: family.to_owned(),
            given: vec!["Robin".to_owned()],
            birth_date: birth_date.parse().unwrap(),
        }
    }

    fn traced(family: &str, birth_date: &str) -> Traced {
        let Demographics { family, given, birth_date } = person(family, birth_date);
        Traced { family: Some(family), given, birth_date: Some(birth_date), deceased: false }
    }

    fn agree(sent: &str, held: &str) -> bool {
        compare(&person(sent, "2017-05-11"), &traced(held, "2017-05-11")).is_ok()
    }

    #[test]
    fn spellings_of_one_name_agree() {
        for (sent, traced) in [
            ("Testcase", "TESTCASE"),
            (" Testcase ", "Testcase"),
            ("O'Brien", "O\u{2019}BRIEN"),
            ("O Brien", "OBrien"),
            ("Smith-Jones", "Smith  Jones"),
            ("St. John", "St John"),
            ("Müller", "Mu\u{308}ller"),
            ("Müller", "Muller"),
            ("Łukasiewicz", "Lukasiewicz"),
            ("Strauß", "STRAUSS"),
            ("Sørensen", "Sorensen"),
            ("İnan", "Inan"),
            ("Ｔｅｓｔ", "Test"),
            ("Núñez", "NUNEZ"),
        ] {
            assert!(agree(sent, traced) && agree(traced, sent), "{sent} {traced}");
        }
    }

    #[test]
    fn different_names_or_birth_dates_are_refused() {
        for (sent, traced) in [("Testcase", "Testcass"), ("Smith", "Smith-Jones"), ("", ""), (" ", "-"), ("Ng", "")] {
            assert!(!agree(sent, traced), "{sent} {traced}");
        }
        let traced = traced("Testcase", "2017-05-11");
        assert_eq!(compare(&person("Testcase", "2017-05-12"), &traced), Err(RecordCode::Cpr03));
        assert_eq!(compare(&person("Testcase", "2017-11-05"), &traced), Err(RecordCode::Cpr03));
    }

    #[test]
    fn given_names_do_not_count() {
        let mut sent = person("Testcase", "2017-05-11");
        sent.given.clear();
        assert_eq!(compare(&sent, &traced("Testcase", "2017-05-11")), Ok(()));
    }

    proptest! {
        #[test]
        fn every_name_agrees_with_itself_in_any_case(name in "[A-Za-zÀ-ÿ]{1,20}") {
            prop_assert!(agree(&name, &name.to_uppercase()) && agree(&name, &name.to_lowercase()));
        }

        #[test]
        fn agreement_goes_both_ways(one in "[A-Ca-c' -]{0,6}", other in "[A-Ca-c' -]{0,6}") {
            prop_assert_eq!(agree(&one, &other), agree(&other, &one));
        }

        #[test]
        fn plain_names_agree_only_when_their_letters_do(one in "[a-c]{1,4}", other in "[a-c]{1,4}") {
            prop_assert_eq!(agree(&one, &other), one == other);
        }
    }
}
