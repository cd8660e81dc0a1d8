//! How deep an SQL text may nest by its operators. `a + b + c …` is a tree as deep as the chain is long, and parser,
//! planner and evaluation walk it by recursion: a chain that would not fit a stack is refused as tokens.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::job::JobError;

/// Most operators that one expression may chain or nest. Printing a plan takes a few KiB of stack for each.
const MOST: usize = 250;

/// An error where an expression of the text has too many operators. Texts that are no tokens pass: the parser
/// has better words for them.
pub(crate) fn check(sql: &str, path: &str) -> Result<(), JobError> {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return Ok(()) };
    let found = depth(&tokens);
    if found <= MOST {
        return Ok(());
    }
    let error = JobError::at(path, format!("too many operators in one SQL text ({found}, at most {MOST})"));
    Err(error.hint("write long chains as a list (x IN (…), coalesce(…)), or split the expression into several columns"))
}

/// Between one bracket and its end.
#[derive(Default)]
struct Level {
    /// Operators since the last comma.
    chain: usize,
    /// Deepest bracket since the last comma.
    inner: usize,
    /// Deepest item before the last comma.
    before: usize,
}

impl Level {
    fn depth(&self) -> usize {
        self.before.max(self.chain + self.inner)
    }
}

/// An upper bound of the operators above each other in any expression as it is written. Items of a list stand beside
/// each other. What one SELECT puts into another is weighed when there is a plan.
fn depth(tokens: &[Token]) -> usize {
    let (mut outer, mut level) = (Vec::new(), Level::default());
    for token in tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => outer.push(std::mem::take(&mut level)),
            Token::RParen | Token::RBracket | Token::RBrace => {
                let inner = level.depth();
                level = outer.pop().unwrap_or_default();
                level.inner = level.inner.max(inner);
            }
            Token::Comma => level = Level { before: level.depth(), ..Level::default() },
            _ => level.chain += usize::from(is_operator(token)),
        }
    }
    let open = outer.iter().map(Level::depth).sum::<usize>();
    open + level.depth()
}

fn is_operator(token: &Token) -> bool {
    use Keyword as K;
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            K::AND
                | K::OR
                | K::XOR
                | K::NOT
                | K::IS
                | K::IN
                | K::LIKE
                | K::ILIKE
                | K::SIMILAR
                | K::RLIKE
                | K::REGEXP
                | K::DIV
                | K::BETWEEN
                | K::CASE
                | K::COLLATE
                | K::AT
                | K::OVERLAPS
                | K::UNION
                | K::EXCEPT
                | K::INTERSECT
                | K::JOIN
        ),
        Token::EOF | Token::Char(_) | Token::Number(..) | Token::Placeholder(_) | Token::Whitespace(_) => false,
        Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) | Token::NationalStringLiteral(_) => false,
        Token::EscapedStringLiteral(_) | Token::UnicodeStringLiteral(_) | Token::HexStringLiteral(_) => false,
        Token::DollarQuotedString(_) | Token::Period | Token::SemiColon => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn of(sql: &str) -> usize {
        depth(&Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap())
    }

    #[test]
    fn chains_and_brackets_add_up_and_lists_do_not() {
        assert_eq!(of("x"), 0);
        assert_eq!(of("x + 1 + 1 + -1"), 4);
        assert_eq!(of("(a + b) * (c + d + e)"), 3);
        assert_eq!(of("f(a + b, c, d * e * f) + 1"), 3);
        assert_eq!(of("(a + b + c) + 1 + 1"), 4);
        assert_eq!(of("NOT NOT a AND b || c::text::text"), 6);
        assert_eq!(of("SELECT a + 1, b + 1, c + 1 FROM t"), 1);
        assert_eq!(of("WITH u AS (SELECT a + 1 + 1 AS a FROM t) SELECT a + 1 FROM u"), 3);
        assert_eq!(of("((((a + 1"), 1);
        assert_eq!(of("a + 1 (b + 1 [c + 1"), 3);
    }

    #[test]
    fn wide_is_fine_and_long_is_not() {
        let wide: Vec<_> = (0..3000).map(|i| format!("a + {i} AS c{i}")).collect();
        assert!(check(&format!("SELECT {} FROM t", wide.join(", ")), "prepare").is_ok());
        assert!(check(&format!("a{}", " + 1".repeat(250)), "p").is_ok());
        let error = check(&format!("a{}", " + 1".repeat(3000)), "p").unwrap_err();
        assert_eq!(error.message, "too many operators in one SQL text (3000, at most 250)");
    }
}
