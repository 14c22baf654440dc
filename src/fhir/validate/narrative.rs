//! The XHTML of `Narrative.div`: R4's rules txt-1 and txt-2. <https://hl7.org/fhir/R4/narrative.html>

const NAMESPACE: &str = "http://www.w3.org/1999/xhtml";

/// Deepest nesting of elements: enough for any table in a list.
const MAX_DEPTH: usize = 64;

/// HTML 4.0 chapters 7 to 11 (without 9.4) and 15, links and images: the list of txt-1, and `address`, `bdo` and `kbd`,
/// which those chapters hold too.
const ELEMENTS: &str = "a abbr acronym address b bdo big blockquote br caption cite code col colgroup dd dfn div dl dt em h1 h2 \
    h3 h4 h5 h6 hr i img kbd li ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt \
    ul var";

/// The list of txt-1, and the two of XML.
const ATTRIBUTES: &str = "abbr accesskey align alt axis bgcolor border cellhalign cellpadding cellspacing cellvalign char charoff \
    charset cite class colspan compact coords dir frame headers height href hreflang hspace id lang longdesc \
    name nowrap rel rev rowspan rules scope shape span src start style summary tabindex title type valign \
    value vspace width xml:lang xml:space";

/// XML's own; HTML's (`&nbsp;`) do not exist in XHTML without a DTD.
const ENTITIES: [&str; 5] = ["amp", "lt", "gt", "quot", "apos"];

/// What a narrative that keeps txt-1 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Narrative {
    /// Neither text nor an image: against txt-2.
    Empty,
    Something,
}

/// Reads a narrative; none when it breaks txt-1: not one well-formed `div` of XHTML, or more than basic formatting in it.
pub(super) fn read(div: &str) -> Option<Narrative> {
    let mut reader = Reader { rest: div.trim(), open: Vec::new(), says: false };
    if !reader.rest.starts_with("<div") {
        return None;
    }
    reader.tag()?;
    while !reader.open.is_empty() {
        reader.next()?;
    }
    let narrative = if reader.says { Narrative::Something } else { Narrative::Empty };
    reader.rest.is_empty().then_some(narrative)
}

struct Reader<'a> {
    rest: &'a str,
    open: Vec<&'a str>,
    says: bool,
}

impl<'a> Reader<'a> {
    /// One piece of content.
    fn next(&mut self) -> Option<()> {
        if let Some(comment) = self.rest.strip_prefix("<!--") {
            self.rest = comment.split_once("--")?.1.strip_prefix('>')?;
            return Some(());
        }
        if let Some(closing) = self.rest.strip_prefix("</") {
            let (name, after) = closing.split_once('>')?;
            self.rest = after;
            return (self.open.pop()? == name.trim_end()).then_some(());
        }
        if self.rest.starts_with('<') {
            return self.tag();
        }
        let end = self.rest.find('<')?;
        let (text, after) = self.rest.split_at_checked(end)?;
        self.rest = after;
        self.says |= !text.trim().is_empty();
        entities_are_xml(text).then_some(())
    }

    /// An opening tag, or an empty element.
    fn tag(&mut self) -> Option<()> {
        self.rest = self.rest.strip_prefix('<')?;
        let name = self.name()?;
        let outermost = self.open.is_empty();
        if !is_listed(ELEMENTS, name) || self.open.len() >= MAX_DEPTH {
            return None;
        }
        let (mut seen, mut in_namespace) = (Vec::new(), false);
        loop {
            let spaced = self.rest.starts_with(|c: char| c.is_ascii_whitespace());
            self.rest = self.rest.trim_ascii_start();
            if let Some(after) = self.rest.strip_prefix("/>") {
                self.rest = after;
                break;
            }
            if let Some(after) = self.rest.strip_prefix('>') {
                self.rest = after;
                self.open.push(name);
                break;
            }
            let (attribute, value) = self.attribute()?;
            if !spaced || seen.contains(&attribute) {
                return None;
            }
            seen.push(attribute);
            if attribute == "xmlns" {
                in_namespace = value == NAMESPACE;
                if !in_namespace {
                    return None;
                }
            } else if !is_listed(ATTRIBUTES, attribute) || is_script(attribute, value) {
                return None;
            }
        }
        self.says |= name == "img" && seen.contains(&"src");
        (!outermost || in_namespace).then_some(())
    }

    fn name(&mut self) -> Option<&'a str> {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == ':' || c == '-' || c == '_'))?;
        let (name, after) = self.rest.split_at_checked(end)?;
        self.rest = after;
        (!name.is_empty()).then_some(name)
    }

    fn attribute(&mut self) -> Option<(&'a str, &'a str)> {
        let name = self.name()?;
        self.rest = self.rest.trim_ascii_start().strip_prefix('=')?.trim_ascii_start();
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (value, after) = self.rest.get(1..)?.split_once(quote)?;
        self.rest = after;
        (!value.contains('<') && entities_are_xml(value)).then_some((name, value))
    }
}

fn is_listed(names: &str, name: &str) -> bool {
    names.split(' ').any(|listed| listed == name)
}

/// True for a link that would run.
fn is_script(attribute: &str, value: &str) -> bool {
    let bare: String = value.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
    matches!(attribute, "href" | "src" | "cite" | "longdesc") && bare.to_ascii_lowercase().starts_with("javascript:")
}

fn entities_are_xml(text: &str) -> bool {
    text.split('&').skip(1).all(|after| {
        after.split_once(';').is_some_and(|(name, _)| match name.strip_prefix('#') {
            Some(number) => {
                let hex = number.strip_prefix('x').map(|hex| u32::from_str_radix(hex, 16));
                hex.unwrap_or_else(|| number.parse()).is_ok_and(|code| char::from_u32(code).is_some_and(|c| c != '\0'))
            }
            None => ENTITIES.contains(&name),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn div(inner: &str) -> Option<Narrative> {
        read(&format!("<div xmlns=\"{NAMESPACE}\">{inner}</div>"))
    }

    #[test]
    fn a_narrative_is_basic_formatting() {
        for good in [
            "text",
            "<p>a <b>b</b><br/> &lt; &#233; &#xE9;</p>",
            "<table border='1'><tr><td colspan=\"2\">1</td></tr></table>",
            "<img src=\"#photo\" alt=\"a &quot;b&quot;\"/>",
            "<!-- a comment --><ul><li><a href=\"https://example.org/?a=1&amp;b\">x</a></li></ul>",
            "<p xml:lang=\"cy\" style=\"color: red\">plant</p>",
        ] {
            assert_eq!(div(good), Some(Narrative::Something), "{good}");
        }
        for empty in ["", "  \n", "<p> </p>", "<img alt=\"x\"/>", "<!-- only a comment -->"] {
            assert_eq!(div(empty), Some(Narrative::Empty), "{empty}");
        }
    }

    #[test]
    fn nothing_else_is() {
        for bad in [
            "<script>x</script>",
            "<p onclick=\"x()\">x</p>",
            "<form><input/></form>",
            "<iframe src=\"https://example.org\"/>",
            "<object/>",
            "<a href=\" java\nscript:alert(1)\">x</a>",
            "<p>x",
            "<p>x</b></p>",
            "x &nbsp; y",
            "x & y",
            "&#xD800;",
            "<p class=a>x</p>",
            "<p class=\"a\" class=\"b\">x</p>",
            "<p class=\"a\"id=\"b\">x</p>",
            "<P>x</P>",
            "<p>a < b</p>",
            "<!DOCTYPE html>x",
            "<?php x ?>",
            "<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
            "<!-- a -- b -->x",
            "</div><div>",
        ] {
            assert_eq!(div(bad), None, "{bad}");
        }
        for bad in ["", "text", "<p>x</p>", "<div>x</div>", "<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div> after"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(div(&format!("{}x{}", "<b>".repeat(64), "</b>".repeat(64))), None);
    }
}
