//! Sines and cosines of a position, at wavelengths from `2 pi` to nearly `2 pi 10000` (Vaswani et al. 2017, section 3.5), and
//! their form for a picture (Dosovitskiy et al. 2021; Peebles and Xie 2023).
//!
//! ```text
//! e(p)    = [sin(p w_0), ..., sin(p w_(d/2-1)), cos(p w_0), ..., cos(p w_(d/2-1))]      w_i = 10000^(-2 i / d)
//! e(r, c) = [e(c), e(r)]                                 the column first, in half of the channels each
//! ```
//!
//! A grid of any number of rows spans the same positions, those of `base` rows: row r of R is at `r base / R`. A network
//! with a fixed table of positions takes the middle of it for a smaller picture (Esser et al. 2024, appendix B.3).

use burn::tensor::{Device, Tensor, TensorData};

/// e(p) for each of `positions`: `[positions, width]`, computed on the host in f64.
///
/// # Panics
///
/// If `width` is odd.
#[must_use]
pub fn sincos(width: usize, positions: &[f32]) -> TensorData {
    assert!(width.is_multiple_of(2), "sines and cosines do not share a width of {width}");
    let half = width / 2;
    let frequencies: Vec<f64> = (0..half).map(|i| 1.0 / 10_000_f64.powf(i as f64 / half as f64)).collect();
    let mut values = Vec::with_capacity(positions.len() * width);
    for &position in positions {
        let phases = frequencies.iter().map(|frequency| f64::from(position) * frequency);
        values.extend(phases.clone().map(|phase| phase.sin() as f32));
        values.extend(phases.map(|phase| phase.cos() as f32));
    }
    TensorData::new(values, [positions.len(), width])
}

/// e(p) with sines and cosines in turn, `[sin(p w_0), cos(p w_0), sin(p w_1), ...]`: Vaswani et al.'s own order.
///
/// # Panics
///
/// If `width` is odd.
#[must_use]
pub fn interleaved_sincos(width: usize, positions: &[f32]) -> TensorData {
    let halves: Vec<f32> = sincos(width, positions).iter().collect();
    let half = width / 2;
    let rows = halves.chunks(width.max(1));
    let values: Vec<f32> =
        rows.flat_map(|row| (0..half).flat_map(move |i| [row[i], row[half + i]])).collect();
    TensorData::new(values, [positions.len(), width])
}

/// e(r, c) over a grid, `[rows, columns, width]`; each side spans the positions `0..base`.
///
/// # Panics
///
/// If four does not divide `width`.
#[must_use]
pub fn sincos_2d(width: usize, [rows, columns]: [usize; 2], base: usize, device: &Device) -> Tensor<3> {
    assert!(width.is_multiple_of(4), "sines and cosines of rows and columns do not share a width of {width}");
    // In f32 and by a quotient, as diffusers does it, so that published tables come out to the last place.
    let line = |n: usize| -> Tensor<2> {
        let step = (n as f64 / base as f64) as f32;
        let positions: Vec<f32> = (0..n).map(|i| i as f32 / step).collect();
        Tensor::from_data(sincos(width / 2, &positions), device)
    };
    let shape = [rows, columns, width / 2];
    let of_columns = line(columns).unsqueeze_dim::<3>(0).expand(shape);
    let of_rows = line(rows).unsqueeze_dim::<3>(1).expand(shape);
    Tensor::cat(vec![of_columns, of_rows], 2)
}

/// The middle of a table, `[table_rows, table_columns, width]` to `[rows, columns, width]`; where it cannot lie in the very
/// middle, one nearer to the start.
///
/// # Panics
///
/// If the table is smaller than that.
#[must_use]
pub fn centred(table: Tensor<3>, [rows, columns]: [usize; 2]) -> Tensor<3> {
    let [table_rows, table_columns, _] = table.dims();
    assert!(
        rows <= table_rows && columns <= table_columns,
        "{rows} x {columns} positions are more than a table of {table_rows} x {table_columns} holds"
    );
    let (top, left) = ((table_rows - rows) / 2, (table_columns - columns) / 2);
    table.narrow(0, top, rows).narrow(1, left, columns)
}
