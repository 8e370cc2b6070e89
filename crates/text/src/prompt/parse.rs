//! From a prompt's characters to its words and their weights.

use std::mem;

/// What one pair of round brackets makes of a weight.
const EMPHASIS: f64 = 1.1;

/// A prompt with the weights of its words; see the [module](super).
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedPrompt {
    /// What stands between one `BREAK` and the next, as runs of words of one weight.
    pub segments: Vec<Vec<Words>>,
}

/// Words of one weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Words {
    /// The words.
    pub text: String,
    /// Their weight; 1 is what it is without any notation.
    pub weight: f64,
}

impl WeightedPrompt {
    /// Reads the notation. Every text is a prompt.
    ///
    /// ```
    /// use kiln_text::prompt::WeightedPrompt;
    ///
    /// let prompt = WeightedPrompt::parse("a (red:1.3) kiln");
    /// let words: Vec<_> = prompt.segments[0].iter().map(|words| (&*words.text, words.weight)).collect();
    /// assert_eq!(words, [("a ", 1.0), ("red", 1.3), (" kiln", 1.0)]);
    /// ```
    #[must_use]
    pub fn parse(prompt: &str) -> Self {
        let mut reader = Reader::default();
        let mut rest = prompt.chars();
        while let Some(char) = rest.next() {
            match char {
                '\\' => match rest.clone().next().filter(|next| r"\()[]".contains(*next)) {
                    Some(next) => {
                        reader.text.push(next);
                        rest.next();
                    }
                    None => reader.text.push(char),
                },
                '(' => reader.open(Bracket::Round),
                '[' => reader.open(Bracket::Square),
                ')' => reader.close(Bracket::Round, EMPHASIS, char),
                ']' => reader.close(Bracket::Square, 1.0 / EMPHASIS, char),
                ':' if !reader.round.is_empty() => match weight(rest.as_str()) {
                    Some((weight, after)) => {
                        reader.close(Bracket::Round, weight, char);
                        rest = after.chars();
                    }
                    None => reader.text.push(char),
                },
                char => reader.text.push(char),
            }
        }
        reader.finish()
    }

    /// The words alone, for an encoder that reads all of them at once and weighs none.
    #[must_use]
    pub fn plain(&self) -> String {
        let segments = self.segments.iter();
        let words = segments.map(|segment| segment.iter().map(|words| &*words.text).collect::<String>());
        words.filter(|words| !words.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// The weight that closes a bracket, and what follows: `1.3)`, after the colon.
fn weight(text: &str) -> Option<(f64, &str)> {
    let (number, after) = text.split_once(')')?;
    let number = number.trim();
    let is_weight = |char: char| char.is_ascii_digit() || "+-.".contains(char);
    // An encoder's states are in f32.
    let weight = number.parse::<f64>().ok().filter(|weight| (*weight as f32).is_finite());
    weight.filter(|_| number.chars().all(is_weight)).map(|weight| (weight, after))
}

#[derive(Clone, Copy)]
enum Bracket {
    Round,
    Square,
}

enum Item {
    Words(Words),
    Break,
}

/// What has been read.
#[derive(Default)]
struct Reader {
    items: Vec<Item>,
    /// Where in `items` each bracket that is open was opened.
    round: Vec<usize>,
    square: Vec<usize>,
    /// Characters since the last bracket.
    text: String,
}

impl Reader {
    fn opened(&mut self, bracket: Bracket) -> &mut Vec<usize> {
        match bracket {
            Bracket::Round => &mut self.round,
            Bracket::Square => &mut self.square,
        }
    }

    fn open(&mut self, bracket: Bracket) {
        self.flush();
        let at = self.items.len();
        self.opened(bracket).push(at);
    }

    fn close(&mut self, bracket: Bracket, weight: f64, char: char) {
        if self.opened(bracket).is_empty() {
            self.text.push(char);
            return;
        }
        self.flush();
        if let Some(from) = self.opened(bracket).pop() {
            self.multiply(from, weight);
        }
    }

    fn multiply(&mut self, from: usize, weight: f64) {
        for item in &mut self.items[from..] {
            if let Item::Words(words) = item {
                words.weight *= weight;
            }
        }
    }

    /// Takes the characters since the last bracket apart at each `BREAK`.
    fn flush(&mut self) {
        const BREAK: &str = "BREAK";
        let text = mem::take(&mut self.text);
        let is_letter = |char: char| char.is_alphanumeric() || char == '_';
        let mut rest = &*text;
        let mut from = 0;
        for (at, _) in text.match_indices(BREAK) {
            let after = at + BREAK.len();
            if text[..at].ends_with(is_letter) || text[after..].starts_with(is_letter) {
                continue;
            }
            self.push(rest[..at - from].trim_end());
            self.items.push(Item::Break);
            rest = text[after..].trim_start();
            from = text.len() - rest.len();
        }
        self.push(rest);
    }

    fn push(&mut self, text: &str) {
        if !text.is_empty() {
            self.items.push(Item::Words(Words { text: text.to_owned(), weight: 1.0 }));
        }
    }

    fn finish(mut self) -> WeightedPrompt {
        self.flush();
        for from in mem::take(&mut self.round) {
            self.multiply(from, EMPHASIS);
        }
        for from in mem::take(&mut self.square) {
            self.multiply(from, 1.0 / EMPHASIS);
        }
        let mut segments: Vec<Vec<Words>> = vec![Vec::new()];
        for item in self.items {
            let Item::Words(words) = item else {
                segments.push(Vec::new());
                continue;
            };
            let Some(segment) = segments.last_mut() else { continue };
            match segment.last_mut() {
                // What brackets and escapes took apart and no weight tells apart is one text again, as the tokenizer should see it.
                Some(last) if last.weight == words.weight => last.text.push_str(&words.text),
                _ => segment.push(words),
            }
        }
        WeightedPrompt { segments }
    }
}
