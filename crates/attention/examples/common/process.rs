//! What Linux tells of this process.

use std::error::Error;

/// User and system time of this process in seconds, which Linux counts in hundredths.
pub fn processor_seconds() -> Result<f64, Box<dyn Error + Send + Sync>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The program's name, which may have spaces, ends at the last parenthesis.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let mut ticks = 0.0;
    for field in [11, 12] {
        ticks += fields.get(field).ok_or("Linux tells no processor time")?.parse::<f64>()?;
    }
    Ok(ticks / 100.0)
}
