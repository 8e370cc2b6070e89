//! A polynomial from a text:
//!
//! ```text
//! sum      = sign* product (sign+ product)*                 sign = + or - (or −)
//! product  = power ((* or · or × or nothing) power, or / power that is a number)*
//! power    = atom (^ whole number, or ² or ³ …)?
//! atom     = number | variable | ( sum )
//! number   = digits, with a decimal point, with an exponent of ten: 3, .5, 1.5e-3
//! variable = letter, with a number: x, y, x1, x_12
//! ```
//!
//! So `xy` is x times y, `x2` is the variable x2 and not the square of x, and `1/2x` is half of x.

use std::str::FromStr;

use super::polynomial::{Polynomial, Variable};
use super::{ParseError, Problem};

/// Parentheses within parentheses.
const MAX_DEPTH: usize = 100;
/// Terms of a product that is written out.
const MAX_TERMS: usize = 1 << 20;

impl FromStr for Polynomial {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut parser = Parser { characters: text.chars().collect(), place: 0, depth: 0 };
        let polynomial = parser.sum()?;
        match parser.peek() {
            None => Ok(polynomial),
            Some(_) => Err(parser.unexpected("an operator or the end")),
        }
    }
}

struct Parser {
    characters: Vec<char>,
    /// The next character's index.
    place: usize,
    depth: usize,
}

impl Parser {
    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        while self.characters.get(self.place).is_some_and(|c| c.is_whitespace()) {
            self.place += 1;
        }
        self.characters.get(self.place).copied()
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> Option<char> {
        let character = self.peek().filter(|&c| wanted(c))?;
        self.place += 1;
        Some(character)
    }

    fn at(&self, place: usize, problem: Problem) -> ParseError {
        ParseError { column: place + 1, problem }
    }

    fn unexpected(&mut self, expected: &'static str) -> ParseError {
        let problem = match self.peek() {
            Some(found) => Problem::Unexpected { expected, found },
            None => Problem::Ended { expected },
        };
        self.at(self.place, problem)
    }

    fn sum(&mut self) -> Result<Polynomial, ParseError> {
        let start = self.place;
        let sign = self.signs().unwrap_or(1.0);
        let mut sum = self.product()?.scaled(sign);
        while let Some(sign) = self.signs() {
            sum = sum.add(&self.product()?, sign);
        }
        self.check(start, &sum)?;
        Ok(sum)
    }

    /// 1 or -1, if there is any sign.
    fn signs(&mut self) -> Option<f64> {
        let mut sign = None;
        while let Some(character) = self.take(|c| matches!(c, '+' | '-' | '−' | '–')) {
            let factor = if character == '+' { 1.0 } else { -1.0 };
            sign = Some(sign.unwrap_or(1.0) * factor);
        }
        sign
    }

    fn product(&mut self) -> Result<Polynomial, ParseError> {
        let mut product = self.power()?;
        loop {
            let divides = match self.peek() {
                Some('*' | '·' | '×' | '⋅') => {
                    self.place += 1;
                    false
                }
                Some('/' | '÷') => {
                    self.place += 1;
                    true
                }
                Some(c) if begins_atom(c) => false,
                _ => return Ok(product),
            };
            self.peek();
            let start = self.place;
            let factor = self.power()?;
            product = if divides {
                if factor.degree() > 0 {
                    return Err(self.at(start, Problem::Divisor));
                } else if factor.constant == 0.0 {
                    return Err(self.at(start, Problem::DivisionByZero));
                }
                // Not times the reciprocal, which is rounded: 3/3 is 1, and 49/49.
                let quotient = |coefficient: &mut f64| *coefficient /= factor.constant;
                let mut divided = product;
                quotient(&mut divided.constant);
                divided.linear.values_mut().for_each(quotient);
                divided.quadratic.values_mut().for_each(quotient);
                divided
            } else {
                self.times(start, &product, &factor)?
            };
            self.check(start, &product)?;
        }
    }

    fn times(&self, start: usize, one: &Polynomial, other: &Polynomial) -> Result<Polynomial, ParseError> {
        let degree = one.degree() + other.degree();
        if degree > 2 {
            return Err(self.at(start, Problem::Degree { degree }));
        }
        if one.linear.len().saturating_mul(other.linear.len()) > MAX_TERMS
            || one.terms() + other.terms() > MAX_TERMS
        {
            return Err(self.at(start, Problem::TooMany { what: "terms", most: MAX_TERMS }));
        }
        Ok(one.times(other))
    }

    fn power(&mut self) -> Result<Polynomial, ParseError> {
        self.peek();
        let start = self.place;
        let base = self.atom()?;
        let exponent = if self.take(|c| c == '^').is_some() {
            self.peek();
            let place = self.place;
            let digits = self.digits();
            if digits.is_empty() && self.peek().is_none() {
                return Err(self.unexpected("an exponent"));
            }
            let whole = self.characters.get(self.place) != Some(&'.');
            match digits.parse::<usize>() {
                Ok(exponent) if exponent < 100 && whole => exponent,
                _ => return Err(self.at(place, Problem::Exponent)),
            }
        } else {
            let mut raised: Option<usize> = None;
            while let Some(digit) = self.peek().and_then(superscript) {
                raised = Some(raised.unwrap_or(0).saturating_mul(10).saturating_add(digit));
                self.place += 1;
            }
            match raised {
                None => return Ok(base),
                Some(exponent) if exponent < 100 => exponent,
                Some(_) => return Err(self.at(self.place - 1, Problem::Exponent)),
            }
        };
        let degree = base.degree() * exponent;
        if degree > 2 {
            return Err(self.at(start, Problem::Degree { degree }));
        }
        let mut power = Polynomial::constant(1.0);
        for _ in 0..exponent {
            power = self.times(start, &power, &base)?;
        }
        self.check(start, &power)?;
        Ok(power)
    }

    fn atom(&mut self) -> Result<Polynomial, ParseError> {
        let start = self.place;
        match self.peek() {
            Some('(') => {
                self.place += 1;
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    let problem =
                        Problem::TooMany { what: "parentheses within parentheses", most: MAX_DEPTH };
                    return Err(self.at(start, problem));
                }
                let sum = self.sum()?;
                if self.take(|c| c == ')').is_none() {
                    return Err(self.unexpected("an operator or `)`"));
                }
                self.depth -= 1;
                Ok(sum)
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number().map(Polynomial::constant),
            Some(c) if c.is_alphabetic() && superscript(c).is_none() => {
                self.place += 1;
                self.variable(c).map(Polynomial::variable)
            }
            _ => Err(self.unexpected("a number, a variable or `(`")),
        }
    }

    fn variable(&mut self, letter: char) -> Result<Variable, ParseError> {
        let start = self.place;
        let digit = |place: usize| self.characters.get(place).is_some_and(char::is_ascii_digit);
        let underscore = self.characters.get(start) == Some(&'_');
        if underscore && !digit(start + 1) {
            return Err(self.at(start, Problem::Unexpected { expected: "a number after `_`", found: '_' }));
        }
        self.place += usize::from(underscore);
        let digits = self.digits();
        if digits.is_empty() {
            return Ok(Variable { letter, number: None });
        }
        let most = u32::MAX as usize;
        let too_many = |_| self.at(start, Problem::TooMany { what: "variables of one letter", most });
        Ok(Variable { letter, number: Some(digits.parse().map_err(too_many)?) })
    }

    fn number(&mut self) -> Result<f64, ParseError> {
        let start = self.place;
        let mut text = self.digits();
        if self.characters.get(self.place) == Some(&'.') {
            self.place += 1;
            text = format!("{text}.{}", self.digits());
        }
        if text == "." {
            return Err(
                self.at(start, Problem::Unexpected { expected: "a digit beside the point", found: '.' })
            );
        }
        // `2e` is 2 times the variable e; `2e3` is 2000.
        if matches!(self.characters.get(self.place), Some('e' | 'E')) {
            let signed = matches!(self.characters.get(self.place + 1), Some('+' | '-'));
            let digits = self.place + 1 + usize::from(signed);
            if self.characters.get(digits).is_some_and(char::is_ascii_digit) {
                text.extend(&self.characters[self.place..digits]);
                self.place = digits;
                text += &self.digits();
            }
        }
        // Whatever was collected is a number of Rust's.
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(self.at(start, Problem::NotFinite)),
        }
    }

    fn digits(&mut self) -> String {
        let rest = self.characters.get(self.place..).unwrap_or_default();
        let digits: String = rest.iter().take_while(|c| c.is_ascii_digit()).collect();
        self.place += digits.len();
        digits
    }

    fn check(&self, start: usize, polynomial: &Polynomial) -> Result<(), ParseError> {
        if polynomial.is_finite() { Ok(()) } else { Err(self.at(start, Problem::NotFinite)) }
    }
}

fn begins_atom(c: char) -> bool {
    c == '(' || c == '.' || c.is_ascii_digit() || (c.is_alphabetic() && superscript(c).is_none())
}

fn superscript(c: char) -> Option<usize> {
    "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().position(|digit| digit == c)
}
