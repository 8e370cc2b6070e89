//! How well a picture model knows pictures that it was not trained on.

use burn::tensor::{Int, Tensor, TensorData};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_diffusion::{Estimate, Objective};
use kiln_picture::Picture;

use crate::draw::BATCH;
use crate::{ModelError, PictureModel};

/// Each picture is asked for at so many times.
const ROUNDS: usize = 4;

impl PictureModel {
    /// The mean squared error of the model's prediction, `|output - target|²` over the numbers of a picture, at noise and times that depend
    /// on nothing but the seed and the number of pictures:
    ///
    /// ```text
    /// t = t_min + (t_max - t_min) (((i + r n / 4) mod n) + 1/2) / n     for picture i of n, r = 0 .. 3
    /// ```
    ///
    /// Models of one process and prediction can be compared by it, however their times of training were drawn.
    ///
    /// # Errors
    /// [`ModelError::Card`] for a picture of another size or number of channels than the model's, or if there is not one class a picture;
    /// [`ModelError::Class`], [`ModelError::NoClasses`].
    pub fn held_out_loss(
        &self,
        pictures: &[Picture],
        classes: &[Option<usize>],
        seed: u64,
    ) -> Result<f64, ModelError> {
        let [height, width] = self.card.size;
        let channels = self.card.network.channels();
        let fits = |picture: &Picture| {
            [picture.height(), picture.width()] == [height as u32, width as u32]
                && picture.samples().len() == channels * height * width
        };
        if !pictures.iter().all(fits) || classes.len() != pictures.len() {
            let reason = format!(
                "pictures of {height} x {width} and {channels} channels are asked for, and a class for each"
            );
            return Err(ModelError::Card { reason });
        }
        for &class in classes.iter().flatten() {
            self.card.class(&class.to_string())?;
        }
        let objective = Objective::new(self.card.prediction);
        let process = self.process.as_ref();
        let (count, span) = (pictures.len(), process.t_max() - process.t_min());
        let mut sum = 0.0;
        for round in 0..ROUNDS {
            for start in (0..count).step_by(BATCH) {
                let rows = start..(start + BATCH).min(count);
                let values: Vec<f32> = pictures[rows.clone()]
                    .iter()
                    .flat_map(|picture| picture.samples().iter().map(|&v| f32::from(v) / 127.5 - 1.0))
                    .collect();
                let x = TensorData::new(values, [rows.len(), height, width, channels]);
                let data = Tensor::<4>::from_data(x, &self.device).permute([0, 3, 1, 2]);
                let key = NoiseKey { seed, sample: rows.start as u64, step: round as u64 };
                let noise = normal(data.dims(), key, &self.device);
                let times: Vec<f64> = rows
                    .clone()
                    .map(|i| ((i + round * count / ROUNDS) % count) as f64)
                    .map(|place| process.t_min() + span * (place + 0.5) / count as f64)
                    .collect();
                let pair = objective.pair_at(process, Estimate { data, noise }, &times);
                let labels = self.labels(&classes[rows]);
                let output = self.network.predict(pair.input.clone(), pair.network_times.clone(), labels);
                sum += pair.loss_each(output).into_data().iter::<f64>().sum::<f64>();
            }
        }
        Ok(sum / (ROUNDS * count) as f64)
    }

    /// A row of the class table for each picture, where the network is told one.
    fn labels(&self, classes: &[Option<usize>]) -> Option<Tensor<1, Int>> {
        let rows: Vec<i64> =
            classes.iter().map(|class| class.unwrap_or(self.card.no_class()) as i64).collect();
        self.card.is_labelled().then(|| Tensor::from_data(&*rows, &self.device))
    }
}
