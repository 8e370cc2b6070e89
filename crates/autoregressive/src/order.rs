//! The order in which variables are taken.

use burn::tensor::{Int, Tensor, TensorData};
use kiln_backend::noise::{NoiseKey, uniform_values};
use serde::{Deserialize, Serialize};

use crate::AutoregressiveError;

/// A permutation of the variables: p(x) = prod_k p(x_{o(k)} | x_{o(1)}, ..., x_{o(k-1)}). Any order gives a right model; which is
/// good is another question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub struct Order {
    /// The variable at each place.
    variables: Vec<usize>,
    /// The place of each variable.
    places: Vec<usize>,
}

impl Order {
    /// From the variable at each place.
    ///
    /// # Errors
    /// [`AutoregressiveError::Order`] if a variable is missing or listed twice.
    pub fn new(variables: Vec<usize>) -> Result<Self, AutoregressiveError> {
        let n = variables.len();
        let fail = |reason| Err(AutoregressiveError::Order { length: n, reason });
        let mut places = vec![usize::MAX; n];
        for (place, &variable) in variables.iter().enumerate() {
            match places.get_mut(variable) {
                None => return fail(format!("variable {variable} at place {place} does not exist")),
                Some(seen) if *seen != usize::MAX => {
                    return fail(format!("variable {variable} stands at places {seen} and {place}"));
                }
                Some(seen) => *seen = place,
            }
        }
        Ok(Self { variables, places })
    }

    /// 0, 1, ..., n - 1.
    #[must_use]
    pub fn natural(n: usize) -> Self {
        Self { variables: (0..n).collect(), places: (0..n).collect() }
    }

    /// One of the n! orders, each as likely as any other, as a function of the seed (Fisher and Yates's shuffle).
    #[must_use]
    pub fn shuffled(n: usize, seed: u64) -> Self {
        let mut variables: Vec<usize> = (0..n).collect();
        let uniforms = uniform_values(n, NoiseKey::new(seed));
        for last in (1..n).rev() {
            // A uniform is below 1 by 2^-24 at least, the product below last + 1.
            let chosen = (f64::from(uniforms[last]) * (last + 1) as f64) as usize;
            variables.swap(last, chosen);
        }
        Self::new(variables).expect("swaps keep a permutation")
    }

    /// Pictures of several channels, `[channels, height, width]` flattened, pixel by pixel in rows and in each pixel channel by
    /// channel.
    #[must_use]
    pub fn raster([channels, height, width]: [usize; 3]) -> Self {
        let pixels = height * width;
        let variables = (0..pixels).flat_map(|pixel| (0..channels).map(move |c| c * pixels + pixel));
        Self::new(variables.collect()).expect("every channel of every pixel once")
    }

    /// The same, from the last to the first.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self::new(self.variables.iter().rev().copied().collect()).expect("a reversed permutation is one")
    }

    /// The number of variables.
    #[must_use]
    pub fn len(&self) -> usize {
        self.variables.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.variables.is_empty()
    }

    /// The variable at each place.
    #[must_use]
    pub fn variables(&self) -> &[usize] {
        &self.variables
    }

    /// The place of each variable.
    #[must_use]
    pub fn places(&self) -> &[usize] {
        &self.places
    }

    /// Slices along an axis, that lie by variable, by place.
    pub(crate) fn by_place<const D: usize>(&self, x: Tensor<D>, axis: usize) -> Tensor<D> {
        self.select(x, axis, &self.variables)
    }

    /// Slices along an axis, that lie by place, by variable.
    pub(crate) fn by_variable<const D: usize>(&self, x: Tensor<D>, axis: usize) -> Tensor<D> {
        self.select(x, axis, &self.places)
    }

    fn select<const D: usize>(&self, x: Tensor<D>, axis: usize, indices: &[usize]) -> Tensor<D> {
        if self.is_natural() {
            return x;
        }
        let indices: Vec<i64> = indices.iter().map(|&i| i as i64).collect();
        let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [self.len()]), &x.device());
        x.select(axis, indices)
    }

    /// Whether it is 0, 1, ..., n - 1.
    #[must_use]
    pub fn is_natural(&self) -> bool {
        self.variables.iter().enumerate().all(|(place, variable)| place == *variable)
    }
}

impl TryFrom<Vec<usize>> for Order {
    type Error = AutoregressiveError;

    fn try_from(variables: Vec<usize>) -> Result<Self, Self::Error> {
        Self::new(variables)
    }
}

impl From<Order> for Vec<usize> {
    fn from(order: Order) -> Self {
        order.variables
    }
}
