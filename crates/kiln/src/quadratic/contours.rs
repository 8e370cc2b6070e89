//! The contours of a form in two variables, with the paths that methods took.
//!
//! A contour is where the form has a value that is a multiple of the spacing. How far a pixel is from one is known from the
//! gradient, without a search: |f - level| / |∇f|. Where there is a minimum, the spacing is that of √(f - least), so that the
//! contours of a bowl are as far apart everywhere.

use anyhow::Result;
use font8x8::UnicodeFonts;
use kiln::optim::quadratic::{Analysis, Minimum, QuadraticForm, Stationary, Trace};
use kiln::picture::{Channels, Picture};

/// Height and width of the field, and what is left for numbers at the left and below.
const FIELD: usize = 800;
const LEFT: usize = 96;
const BELOW: usize = 48;
const MARGIN: usize = 16;
/// Contours over the field, at most.
const CONTOURS: f64 = 24.0;
/// A glyph is drawn twice as large as it is.
const GLYPH: usize = 16;

type Colour = [f64; 3];
const WHITE: Colour = [255.0; 3];
const INK: Colour = [40.0, 40.0, 48.0];
const DEEP: Colour = [140.0, 178.0, 214.0];
const LINE: Colour = [70.0, 105.0, 145.0];
/// One a path.
const PATHS: [Colour; 2] = [[208.0, 88.0, 20.0], [24.0, 96.0, 40.0]];

/// Draws the form; the first path's colour is orange, the second's green.
pub fn draw(form: &QuadraticForm, analysis: &Analysis, paths: &[(&str, Trace)]) -> Result<Picture> {
    let window = Window::around(analysis, paths);
    let mut canvas = Canvas::new();
    contours(&mut canvas, &window, form, analysis);
    axes(&mut canvas, &window, form);
    for ((_, trace), colour) in paths.iter().zip(PATHS) {
        let points: Vec<_> = trace.path.iter().map(|x| window.pixel(x)).collect();
        points.windows(2).for_each(|pair| canvas.line(pair[0], pair[1], 1.6, colour));
        points.iter().for_each(|&at| canvas.disc(at, 4.0, colour));
    }
    if let Stationary::Point(x) | Stationary::Affine { point: x, .. } = &analysis.stationary {
        let (i, j) = window.pixel(x);
        for (di, dj) in [(8.0, 8.0), (8.0, -8.0)] {
            canvas.line((i - di, j - dj), (i + di, j + dj), 1.6, INK);
        }
    }
    for (row, ((method, trace), colour)) in paths.iter().zip(PATHS).enumerate() {
        let top = MARGIN + 12 + row * (GLYPH + 6);
        canvas.disc(((LEFT + 16) as f64, top as f64 + 8.0), 6.0, colour);
        canvas.text((LEFT + 30, top), &format!("{method}: {} steps", trace.steps()), INK);
    }
    canvas.into_picture()
}

/// What the field shows: a square of the plane.
struct Window {
    centre: [f64; 2],
    /// From the centre to an edge.
    half: f64,
}

impl Window {
    /// All paths and where the form is stationary, with a third around.
    fn around(analysis: &Analysis, paths: &[(&str, Trace)]) -> Self {
        let mut points: Vec<&[f64]> =
            paths.iter().flat_map(|(_, t)| t.path.iter().map(Vec::as_slice)).collect();
        if let Stationary::Point(x) | Stationary::Affine { point: x, .. } = &analysis.stationary {
            points.push(x);
        }
        let bounds = |axis: usize| {
            points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), x| {
                (least.min(x[axis]), most.max(x[axis]))
            })
        };
        let ((left, right), (bottom, top)) = (bounds(0), bounds(1));
        let span = (right - left).max(top - bottom);
        let centre = if points.is_empty() {
            [0.0; 2]
        } else {
            [f64::midpoint(left, right), f64::midpoint(bottom, top)]
        };
        // A point alone, or none: as much around it as it is away from 0, or 3.
        let alone = 3.0 * (centre[0].abs().max(centre[1].abs()) / 3.0).max(1.0);
        let half = if span.is_finite() && span > 1e-9 * alone { 2.0 / 3.0 * span } else { alone };
        Self { centre, half }
    }

    /// Column and row of a point.
    fn pixel(&self, x: &[f64]) -> (f64, f64) {
        let unit = FIELD as f64 / (2.0 * self.half);
        let column = (x[0] - self.centre[0] + self.half) * unit;
        let row = (self.centre[1] + self.half - x[1]) * unit;
        (LEFT as f64 + column, MARGIN as f64 + row)
    }

    /// The point in the middle of a pixel of the field.
    fn point(&self, column: usize, row: usize) -> [f64; 2] {
        let unit = 2.0 * self.half / FIELD as f64;
        let x = self.centre[0] - self.half + (column as f64 + 0.5) * unit;
        [x, self.centre[1] + self.half - (row as f64 + 0.5) * unit]
    }
}

fn contours(canvas: &mut Canvas, window: &Window, form: &QuadraticForm, analysis: &Analysis) {
    let unit = 2.0 * window.half / FIELD as f64;
    // The height of a pixel, and how much it changes over one.
    let height = |x: &[f64]| {
        let g = form.gradient(x);
        let (value, slope) = (form.value(x), g[0].hypot(g[1]) * unit);
        match analysis.minimum {
            Minimum::Attained(least) => {
                let root = (value - least).max(0.0).sqrt();
                (root, if root > 0.0 { slope / (2.0 * root) } else { 0.0 })
            }
            Minimum::None { .. } => (value, slope),
        }
    };
    let heights: Vec<(f64, f64)> =
        (0..FIELD * FIELD).map(|i| height(&window.point(i % FIELD, i / FIELD))).collect();
    let (least, most) = heights
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), (h, _)| (least.min(*h), most.max(*h)));
    let spacing = if most > least { nice((most - least) / CONTOURS) } else { 1.0 };
    for (i, (h, slope)) in heights.into_iter().enumerate() {
        // One colour from a contour to the next.
        let band = ((h / spacing).floor() + 0.5) * spacing;
        let share = if most > least { ((band - least) / (most - least)).clamp(0.0, 1.0) } else { 0.0 };
        let at = (LEFT + i % FIELD, MARGIN + i / FIELD);
        canvas.blend(at, mix(DEEP, WHITE, 0.15 + 0.85 * share), 1.0);
        let off = (h / spacing - (h / spacing).round()).abs() * spacing;
        // The line is a pixel wide, with soft edges.
        let pixels = if slope > 0.0 { off / slope } else { f64::INFINITY };
        canvas.blend(at, LINE, 0.8 * (1.2 - pixels).clamp(0.0, 1.0));
    }
}

fn axes(canvas: &mut Canvas, window: &Window, form: &QuadraticForm) {
    let (left, right) = (LEFT as f64, (LEFT + FIELD) as f64);
    let (top, bottom) = (MARGIN as f64, (MARGIN + FIELD) as f64);
    for (from, to) in [
        ((left, top), (right, top)),
        ((right, top), (right, bottom)),
        ((right, bottom), (left, bottom)),
        ((left, bottom), (left, top)),
    ] {
        canvas.line(from, to, 1.0, INK);
    }
    let step = nice(window.half / 3.0);
    for axis in 0..2 {
        let (from, to) = (window.centre[axis] - window.half, window.centre[axis] + window.half);
        let mut tick = (from / step).ceil();
        while tick * step <= to {
            let label = label(tick * step, step);
            let width = GLYPH * label.chars().count();
            let mut at = window.centre;
            at[axis] = tick * step;
            let (i, j) = window.pixel(&at);
            if axis == 0 {
                canvas.line((i, bottom), (i, bottom + 6.0), 1.0, INK);
                canvas.text((i as usize - (width / 2).min(i as usize), MARGIN + FIELD + 10), &label, INK);
            } else {
                canvas.line((left - 6.0, j), (left, j), 1.0, INK);
                canvas.text((LEFT - 8 - width.min(LEFT - 8), j as usize - GLYPH / 2), &label, INK);
            }
            tick += 1.0;
        }
    }
    canvas.text((LEFT + FIELD - GLYPH * form.names()[0].len(), MARGIN + FIELD + 28), &form.names()[0], INK);
    canvas.text((4, MARGIN), &form.names()[1], INK);
}

/// 1, 2 or 5 times a power of ten, near `size`.
fn nice(size: f64) -> f64 {
    let power = 10f64.powf(size.log10().floor());
    power * [1.0, 2.0, 5.0, 10.0].into_iter().find(|&m| m * power >= size).unwrap_or(10.0)
}

/// A multiple of `step` with as many digits as `step` needs.
fn label(value: f64, step: f64) -> String {
    if !(1e-3..1e4).contains(&step) {
        return format!("{value:.0e}");
    }
    let digits = (-step.log10().floor()).max(0.0) as usize;
    format!("{:.digits$}", value + 0.0)
}

fn mix(one: Colour, other: Colour, share: f64) -> Colour {
    std::array::from_fn(|i| one[i] + share * (other[i] - one[i]))
}

/// Pixels that take soft edges.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Colour>,
}

impl Canvas {
    fn new() -> Self {
        let (width, height) = (LEFT + FIELD + MARGIN, MARGIN + FIELD + BELOW);
        Self { width, height, pixels: vec![WHITE; width * height] }
    }

    /// Takes `share` of the colour over what is there; nothing outside of the canvas.
    fn blend(&mut self, (column, row): (usize, usize), colour: Colour, share: f64) {
        if share > 0.0 && column < self.width && row < self.height {
            let pixel = &mut self.pixels[row * self.width + column];
            *pixel = mix(*pixel, colour, share);
        }
    }

    /// A line of `width` pixels with round ends.
    fn line(&mut self, from: (f64, f64), to: (f64, f64), width: f64, colour: Colour) {
        let along = (to.0 - from.0, to.1 - from.1);
        let square = (along.0 * along.0 + along.1 * along.1).max(f64::MIN_POSITIVE);
        let reach = width / 2.0 + 1.0;
        let range = |a: f64, b: f64, size: usize| {
            let clamp = |x: f64| x.clamp(0.0, size as f64) as usize;
            clamp(a.min(b) - reach)..clamp(a.max(b) + reach + 1.0)
        };
        for row in range(from.1, to.1, self.height) {
            for column in range(from.0, to.0, self.width) {
                let (x, y) = (column as f64 + 0.5 - from.0, row as f64 + 0.5 - from.1);
                let t = ((x * along.0 + y * along.1) / square).clamp(0.0, 1.0);
                let distance = (x - t * along.0).hypot(y - t * along.1);
                self.blend((column, row), colour, (width / 2.0 + 0.5 - distance).clamp(0.0, 1.0));
            }
        }
    }

    fn disc(&mut self, at: (f64, f64), radius: f64, colour: Colour) {
        self.line(at, at, 2.0 * radius, colour);
    }

    /// A line of text whose upper left corner is given; characters that the font has not are left out.
    fn text(&mut self, (left, top): (usize, usize), text: &str, colour: Colour) {
        for (place, character) in text.chars().enumerate() {
            let basic = font8x8::BASIC_FONTS.get(character);
            let Some(glyph) = basic.or_else(|| font8x8::GREEK_FONTS.get(character)) else { continue };
            for (j, bits) in glyph.into_iter().enumerate() {
                for i in (0..8).filter(|i| bits >> i & 1 == 1) {
                    for (di, dj) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                        let column = left + place * GLYPH + 2 * i + di;
                        self.blend((column, top + 2 * j + dj), colour, 1.0);
                    }
                }
            }
        }
    }

    fn into_picture(self) -> Result<Picture> {
        let samples = self.pixels.iter().flatten().map(|c| c.round().clamp(0.0, 255.0) as u8).collect();
        Ok(Picture::new(self.width as u32, self.height as u32, Channels::Rgb, samples)?)
    }
}
