//! Drawing inside the edges of digits that were held out, with the control network and without.

use anyhow::Result;
use kiln::checkpoint::write_atomically;
use kiln::picture::{Picture, grid};
use kiln::training::data::Pictures;
use kiln::{ControlCard, Controlled, DrawOptions, ModelError, PictureControl, PictureModel};
use serde::Serialize;
use std::path::Path;

use super::overlap::Overlap;

/// Pictures that were held out, with their edges and classes.
pub struct Judge {
    pictures: Vec<Picture>,
    edges: Vec<Picture>,
    classes: Vec<Option<usize>>,
    seed: u64,
}

/// What a judge found, with the control and without it.
#[derive(Debug, Serialize)]
pub struct Scores {
    pub pictures: usize,
    pub controlled: Overlap,
    /// The edges alone say what to draw.
    pub controlled_without_class: Overlap,
    /// The same classes, drawn by the model alone.
    pub uncontrolled: Overlap,
}

/// Edges of other pictures than a drawing's own seeds: far from those that `kiln generate` starts with.
const FIRST: u64 = 1 << 32;

impl Judge {
    pub fn new(
        pictures: &Pictures,
        indices: &[usize],
        card: &ControlCard,
        seed: u64,
    ) -> Result<Self, ModelError> {
        let edges = indices.iter().map(|&i| card.edges(&pictures.picture(i))).collect::<Result<_, _>>()?;
        let labels = pictures.labels();
        Ok(Self {
            pictures: indices.iter().map(|&i| pictures.picture(i)).collect(),
            edges,
            classes: indices.iter().map(|&i| labels.map(|labels| labels[i] as usize)).collect(),
            seed,
        })
    }

    pub fn len(&self) -> usize {
        self.pictures.len()
    }

    /// The first `count`, drawn inside their edges, or by the model alone; of their classes or of none.
    pub fn draw(
        &self,
        model: &PictureModel,
        control: Option<&PictureControl>,
        count: usize,
        classes: Classes,
        steps: usize,
    ) -> Result<Vec<Picture>, ModelError> {
        let none = vec![None; count];
        let classes = match classes {
            Classes::Told => &self.classes[..count],
            Classes::Hidden => &none,
        };
        let controlled =
            control.map(|control| Controlled { control, pictures: &self.edges[..count], scale: 1.0 });
        let options =
            DrawOptions { seed: self.seed, first: FIRST, steps: Some(steps), ..DrawOptions::default() };
        model.draw_controlled(classes, controlled, &options, |_| Ok(()))
    }

    /// How well the edges of `drawn` lie on those asked for.
    pub fn overlap(&self, card: &ControlCard, drawn: &[Picture]) -> Result<Overlap, ModelError> {
        let edges = drawn.iter().map(|picture| card.edges(picture)).collect::<Result<Vec<_>, _>>()?;
        Ok(Overlap::mean(&edges, &self.edges))
    }

    /// All of them judged, and `scores.json` and `compared.png` written: rows of digits held out, their edges, what is drawn with the
    /// control, with it and without a class, and by the model alone.
    pub fn judge(&self, model: &PictureModel, control: &PictureControl, folder: &Path) -> Result<Scores> {
        /// Columns of the picture.
        const COLUMNS: usize = 12;
        let steps = model.card().sampling.steps;
        let draw = |control, classes| self.draw(model, control, self.len(), classes, steps);
        let drawn = [
            draw(Some(control), Classes::Told)?,
            draw(Some(control), Classes::Hidden)?,
            draw(None, Classes::Told)?,
        ];
        let overlap = |drawn: &Vec<Picture>| self.overlap(control.card(), drawn);
        let scores = Scores {
            pictures: self.len(),
            controlled: overlap(&drawn[0])?,
            controlled_without_class: overlap(&drawn[1])?,
            uncontrolled: overlap(&drawn[2])?,
        };
        let columns = self.len().min(COLUMNS);
        let rows = [&self.pictures, &self.edges, &drawn[0], &drawn[1], &drawn[2]];
        let sheet: Vec<_> = rows.iter().flat_map(|row| row[..columns].iter().cloned()).collect();
        grid(&sheet, columns, 2)?.write_png(folder.join("compared.png"))?;
        let text = serde_json::to_string_pretty(&scores)?;
        write_atomically::<std::io::Error>(&folder.join("scores.json"), |file| {
            file.write_all(text.as_bytes())
        })?;
        Ok(scores)
    }
}

/// Whether the model is told what a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classes {
    Told,
    Hidden,
}
