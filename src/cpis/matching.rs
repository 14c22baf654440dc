//! Whether demographics as sent are those of the number (domain.md 3): birth date, family name and given names, each
//! compared by itself. docs/nhs-numbers.md has the rule with examples.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

use super::types::child::{Demographics, Traced};

/// A part of demographics that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    BirthDate,
    Family,
    Given,
}

/// Compares what an authority sent with what was traced for the NHS number. What demographics lack agrees with nothing, so
/// that nobody learns what is held.
///
/// # Errors
/// Every part that doesn't agree.
pub fn compare(sent: &Demographics, traced: &Traced) -> Result<(), Vec<Part>> {
    let agree = [
        (Part::BirthDate, traced.birth_date == Some(sent.birth_date)),
        (Part::Family, traced.family.as_deref().is_some_and(|held| same_family(&sent.family, held))),
        (Part::Given, same_given(&sent.given, &traced.given)),
    ];
    let unlike: Vec<Part> = agree.into_iter().filter(|(_, agrees)| !agrees).map(|(part, _)| part).collect();
    if unlike.is_empty() { Ok(()) } else { Err(unlike) }
}

/// Whether two family names are one, once folded. An empty one is no name.
pub fn same_family(sent: &str, held: &str) -> bool {
    let sent = fold(sent);
    !sent.is_empty() && sent == fold(held)
}

/// Whether given names agree with the registered ones, by the national checks of domain.md 3, of which the first that
/// succeeds decides: (1) all that was sent equals all that is registered; (2) the first name sent equals the first that is
/// registered; (3) the first name sent equals any that is registered. There is a fourth check, whose text is not public:
/// it isn't done, so that what only it would accept is refused. Nobody without a given name matches.
///
/// A first name ends at white space; how names are spread over elements doesn't count.
pub fn same_given(sent: &[String], held: &[String]) -> bool {
    let (sent, held) = (first_names(sent), first_names(held));
    // The second check is a case of the third.
    sent.first().is_some_and(|first| sent.concat() == held.concat() || held.contains(first))
}

fn first_names(given: &[String]) -> Vec<String> {
    given.iter().flat_map(|names| names.split_whitespace()).map(fold).filter(|name| !name.is_empty()).collect()
}

/// A name reduced to what is compared. What one register writes and another leaves out is left out, and folding what is
/// folded changes nothing:
///
/// - case, and compatibility forms (fullwidth letters, typographic ligatures);
/// - accents on Latin and Greek letters, which capitals often lack. On letters of other scripts a mark can make another
///   letter (й and и, vowels of Indian scripts) and stays;
/// - Latin letters that have no decomposition become what registers without them write: ø as o, ß as ss ([`spelled`]);
/// - spaces, hyphens, apostrophes and full stops (O'Brien, O Brien; Smith-Jones, Smith Jones; St. John, St John), and signs
///   that can't be seen.
///
/// Everything else counts: digits, other signs, and other spellings of a sound (ü is u, not ue).
fn fold(name: &str) -> String {
    let mut folded = String::with_capacity(name.len());
    let mut keeps_marks = false;
    for sign in name.nfkd().flat_map(char::to_lowercase) {
        if is_unseen(sign) {
            continue;
        }
        if is_combining_mark(sign) {
            folded.extend(keeps_marks.then_some(sign));
        } else if joins(sign) {
            keeps_marks = false;
        } else if let Some(letters) = spelled(sign) {
            folded.push_str(letters);
            keeps_marks = false;
        } else {
            folded.push(sign);
            keeps_marks = !is_accented_script(sign);
        }
    }
    // Marks that stood apart may have come together, and have an order.
    folded.nfkd().collect()
}

/// How registers without a letter write it, where that is more than leaving a mark out.
fn spelled(letter: char) -> Option<&'static str> {
    Some(match letter {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'þ' => "th",
        'ø' => "o",
        'đ' | 'ð' | 'ɗ' => "d",
        'ł' => "l",
        'ħ' => "h",
        'ı' => "i",
        'ŧ' => "t",
        'ŋ' => "n",
        'ɓ' => "b",
        'ƙ' => "k",
        'ƴ' => "y",
        'ς' => "σ",
        _ => return None,
    })
}

/// A letter, in lower case, of a script in which accents may be left out: Latin, Greek.
fn is_accented_script(letter: char) -> bool {
    matches!(letter,
        'a'..='z' | '\u{c0}'..='\u{2af}' | '\u{370}'..='\u{3ff}' | '\u{1e00}'..='\u{1fff}' | '\u{2c60}'..='\u{2c7f}'
            | '\u{a720}'..='\u{a7ff}')
}

/// White space, hyphens and dashes, apostrophes and what is typed for them, full stops and middle dots.
fn joins(sign: char) -> bool {
    sign.is_whitespace()
        || matches!(sign,
            '-' | '\u{2010}'..='\u{2015}' | '\u{2212}'
                | '\'' | '`' | '\u{b4}' | '\u{2b9}' | '\u{2bb}'..='\u{2bf}' | '\u{2018}'..='\u{201b}' | '\u{2032}'
                | '\u{2035}' | '\u{a78c}'
                | '.' | '\u{b7}' | '\u{2027}')
}

/// Signs without a form of their own: soft hyphen, zero-width ones, marks of direction, selectors of a variant.
fn is_unseen(sign: char) -> bool {
    matches!(sign,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests;
