//! Polynomials of degree 2 at most, in any number of variables.

use std::collections::BTreeMap;
use std::fmt;

/// A variable: a letter, and a number where it has one. `x2` comes before `x10`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Variable {
    pub(super) letter: char,
    pub(super) number: Option<u32>,
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.letter)?;
        self.number.map_or(Ok(()), |number| write!(f, "{number}"))
    }
}

/// c + Σ bᵢ xᵢ + Σ qᵢⱼ xᵢ xⱼ, with i ≤ j. It is read from a text by [`str::parse`].
///
/// ```
/// use kiln_optim::quadratic::Polynomial;
///
/// let polynomial: Polynomial = "3x^2 + 2xy + 2y² - 2x + 8y".parse()?;
/// assert_eq!(polynomial.to_string(), "3x^2 + 2xy + 2y^2 - 2x + 8y");
///
/// let expanded: Polynomial = "(x1 - 1/2 x2)^2 - 1.5e0".parse()?;
/// assert_eq!(expanded.to_string(), "x1^2 - x1x2 + 0.25x2^2 - 1.5");
///
/// let error = "x^2 + x y^2".parse::<Polynomial>().unwrap_err();
/// assert_eq!(error.to_string(), "column 9: a term of degree 3: a quadratic polynomial has none above 2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Polynomial {
    pub(super) constant: f64,
    pub(super) linear: BTreeMap<Variable, f64>,
    pub(super) quadratic: BTreeMap<(Variable, Variable), f64>,
}

impl Polynomial {
    pub(super) fn constant(constant: f64) -> Self {
        Self { constant, ..Self::default() }
    }

    pub(super) fn variable(variable: Variable) -> Self {
        Self { linear: [(variable, 1.0)].into(), ..Self::default() }
    }

    /// The degree: terms whose coefficient is 0 do not count.
    #[must_use]
    pub fn degree(&self) -> usize {
        if self.quadratic.values().any(|&coefficient| coefficient != 0.0) {
            2
        } else if self.linear.values().any(|&coefficient| coefficient != 0.0) {
            1
        } else {
            0
        }
    }

    /// The variables that are written, in order: by letter, then by number.
    #[must_use]
    pub fn variables(&self) -> Vec<Variable> {
        let pairs = self.quadratic.keys().flat_map(|(one, other)| [one, other]);
        let mut variables: Vec<_> = self.linear.keys().chain(pairs).cloned().collect();
        variables.sort();
        variables.dedup();
        variables
    }

    /// Terms, whatever their coefficients.
    pub(super) fn terms(&self) -> usize {
        1 + self.linear.len() + self.quadratic.len()
    }

    pub(super) fn add(mut self, other: &Self, factor: f64) -> Self {
        self.constant += factor * other.constant;
        for (variable, coefficient) in &other.linear {
            *self.linear.entry(variable.clone()).or_default() += factor * coefficient;
        }
        for (pair, coefficient) in &other.quadratic {
            *self.quadratic.entry(pair.clone()).or_default() += factor * coefficient;
        }
        self
    }

    pub(super) fn scaled(&self, factor: f64) -> Self {
        Self::default().add(self, factor)
    }

    /// The product, whose degree the caller knows to be 2 at most.
    pub(super) fn times(&self, other: &Self) -> Self {
        let mut product = self.scaled(other.constant);
        let rest = Self { constant: 0.0, ..other.clone() };
        product = product.add(&rest, self.constant);
        for (one, a) in &self.linear {
            for (another, b) in &other.linear {
                let pair = if one <= another {
                    (one.clone(), another.clone())
                } else {
                    (another.clone(), one.clone())
                };
                *product.quadratic.entry(pair).or_default() += a * b;
            }
        }
        product
    }

    pub(super) fn is_finite(&self) -> bool {
        let coefficients = self.linear.values().chain(self.quadratic.values()).chain([&self.constant]);
        coefficients.into_iter().all(|coefficient| coefficient.is_finite())
    }
}

impl fmt::Display for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quadratic = self.quadratic.iter().map(|((one, other), &coefficient)| {
            (coefficient, if one == other { format!("{one}^2") } else { format!("{one}{other}") })
        });
        let linear = self.linear.iter().map(|(variable, &coefficient)| (coefficient, variable.to_string()));
        write_terms(f, quadratic.chain(linear).chain([(self.constant, String::new())]))
    }
}

/// Terms with their signs between them, those left out whose coefficient is 0.
pub(super) fn write_terms(
    f: &mut fmt::Formatter<'_>,
    terms: impl Iterator<Item = (f64, String)>,
) -> fmt::Result {
    let mut first = true;
    for (coefficient, power) in terms.filter(|(coefficient, _)| *coefficient != 0.0) {
        let sign = match (first, coefficient < 0.0) {
            (true, true) => "-",
            (true, false) => "",
            (false, true) => " - ",
            (false, false) => " + ",
        };
        let size = coefficient.abs();
        match size == 1.0 && !power.is_empty() {
            true => write!(f, "{sign}{power}")?,
            false => write!(f, "{sign}{size}{power}")?,
        }
        first = false;
    }
    if first { write!(f, "0") } else { Ok(()) }
}
