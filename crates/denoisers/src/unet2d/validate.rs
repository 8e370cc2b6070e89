//! Whether the fields of a [`UNet2DConfig`] together make a network.

use kiln_blocks::skip_stage::{ATTENTION_GROUPS, PICTURE_CHANNELS, skip_groups, skip_groups_joined};

use super::config::{TimeEmbeddingType, UNet2DConfig};
use crate::ConfigError;

/// A norm of the network: the field that says of it, its channels and its groups.
type Norm = (&'static str, usize, usize);

impl UNet2DConfig {
    /// Check that the fields together make a network.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Inconsistent`] with the field to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let stages = self.block_out_channels.len();
        if stages == 0 {
            return fail("block_out_channels", "is empty".to_owned());
        }
        for (field, count) in
            [("down_block_types", self.down_block_types.len()), ("up_block_types", self.up_block_types.len())]
        {
            if count != stages {
                return fail(field, format!("has {count} entries, `block_out_channels` has {stages}"));
            }
        }
        for (field, value) in [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("layers_per_block", self.layers_per_block),
            ("norm_num_groups", self.norm_num_groups.unwrap_or(1)),
            ("time_embedding_dim", self.time_embedding_dim.unwrap_or(1)),
            ("attention_head_dim", self.attention_head_dim.unwrap_or(1)),
            ("num_class_embeds", self.num_class_embeds.unwrap_or(1)),
            ("num_train_timesteps", self.num_train_timesteps.unwrap_or(1)),
            ("attn_norm_num_groups", self.attn_norm_num_groups.unwrap_or(1)),
        ] {
            if value == 0 {
                return fail(field, "is 0".to_owned());
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return fail("dropout", format!("is {}; expected 0 or more, and less than 1", self.dropout));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps.is_finite()) {
            return fail("norm_eps", format!("is {}; expected a number above 0", self.norm_eps));
        }
        if self.mid_block_scale_factor == 0.0 || !self.mid_block_scale_factor.is_finite() {
            return fail("mid_block_scale_factor", format!("is {}", self.mid_block_scale_factor));
        }
        if self.time_embedding_type == TimeEmbeddingType::Learned && self.num_train_timesteps.is_none() {
            return fail("num_train_timesteps", "must be given for learned time embeddings".to_owned());
        }
        let first = self.block_out_channels[0];
        if self.time_embedding_type == TimeEmbeddingType::Positional
            && (first < 2 || (first / 2) as f64 <= self.freq_shift)
        {
            return fail("freq_shift", format!("is {} for {first} channels", self.freq_shift));
        }
        self.validate_pictures()?;
        self.validate_attention()?;
        self.validate_norms()
    }

    /// Beside NCSN++'s stages goes a picture, which must keep the resolution of the features.
    fn validate_pictures(&self) -> Result<(), ConfigError> {
        let last = self.block_out_channels.len() - 1;
        let resampling = &self.down_block_types[..last];
        if resampling.iter().any(|kind| kind.skips()) {
            if self.in_channels != PICTURE_CHANNELS {
                let reason =
                    format!("is {}; these stages take pictures of {PICTURE_CHANNELS}", self.in_channels);
                return fail("in_channels", reason);
            }
            let plain = resampling.iter().position(|kind| !kind.skips()).unwrap_or(last);
            if let Some(late) = resampling[plain..].iter().find(|kind| kind.skips()) {
                let reason = format!("has {late:?} below {:?}, which halves no picture", resampling[plain]);
                return fail("down_block_types", reason);
            }
        }
        if let Some(first) = self.up_block_types.iter().position(|kind| kind.skips()) {
            if let Some(plain) = self.up_block_types[first..].iter().find(|kind| !kind.skips()) {
                let reason = format!(
                    "has {plain:?}, which doubles no picture, above {:?}",
                    self.up_block_types[first]
                );
                return fail("up_block_types", reason);
            }
            // The last stage adds nothing of its own.
            if first < last && self.out_channels != PICTURE_CHANNELS {
                let reason =
                    format!("is {}; these stages make pictures of {PICTURE_CHANNELS}", self.out_channels);
                return fail("out_channels", reason);
            }
        }
        Ok(())
    }

    fn validate_attention(&self) -> Result<(), ConfigError> {
        let stages = self.block_out_channels.len();
        for (i, &channels) in self.block_out_channels.iter().enumerate() {
            let innermost = i + 1 == stages;
            if channels == 0 {
                return fail("block_out_channels", format!("stage {i} has none"));
            }
            let attends = self.down_block_types[i].attends()
                || self.up_block_types[stages - 1 - i].attends()
                || (innermost && self.mid_block_type.is_some() && self.add_attention);
            if attends && self.attention_head_dim.is_some_and(|head_dim| head_dim > channels) {
                return fail("attention_head_dim", format!("exceeds the {channels} channels of stage {i}"));
            }
            if innermost && self.attn_norm_num_groups.is_some_and(|groups| !channels.is_multiple_of(groups)) {
                return fail("attn_norm_num_groups", format!("does not divide {channels} channels"));
            }
        }
        Ok(())
    }

    /// Channels of the skip connections, in the order that the way down makes them.
    #[must_use]
    pub fn skip_channels(&self) -> Vec<usize> {
        let last = self.block_out_channels.len() - 1;
        let stages = self.block_out_channels.iter().enumerate();
        // A stage's downsampler makes one too.
        let stages = stages.flat_map(|(i, &out)| vec![out; self.layers_per_block + usize::from(i < last)]);
        std::iter::once(self.block_out_channels[0]).chain(stages).collect()
    }

    /// Groups of the norms of a middle stage, or of that before the last convolution.
    pub(super) fn groups_or_fours(&self, channels: usize) -> usize {
        self.norm_num_groups.unwrap_or_else(|| skip_groups(channels))
    }

    fn validate_norms(&self) -> Result<(), ConfigError> {
        let mut norms = self.norms_down();
        norms.extend(self.norms_up());
        let ends = [self.block_out_channels[0], self.block_out_channels[self.block_out_channels.len() - 1]];
        norms.extend(ends.map(|channels| ("norm_num_groups", channels, self.groups_or_fours(channels))));
        match norms.into_iter().find(|&(_, channels, groups)| groups == 0 || !channels.is_multiple_of(groups))
        {
            Some((field, _, 0)) => {
                fail(field, "needs the number of groups that `norm_num_groups` leaves out".to_owned())
            }
            Some((field, channels, groups)) => {
                fail(field, format!("{groups} groups do not divide {channels} channels"))
            }
            None => Ok(()),
        }
    }

    /// Every norm of the way down; one whose groups are not given has none.
    fn norms_down(&self) -> Vec<Norm> {
        const FIELD: &str = "down_block_types";
        let mut incoming = self.block_out_channels[0];
        let mut norms = Vec::new();
        for (&kind, &out) in self.down_block_types.iter().zip(&self.block_out_channels) {
            if kind.skips() {
                norms.extend([incoming, out].map(|channels| (FIELD, channels, skip_groups(channels))));
                if kind.attends() {
                    norms.push((FIELD, out, ATTENTION_GROUPS));
                }
            } else {
                norms.extend([incoming, out].map(|channels| self.plain_norm(FIELD, channels)));
            }
            incoming = out;
        }
        norms
    }

    /// Every norm of the way up, where features are joined with skip connections.
    fn norms_up(&self) -> Vec<Norm> {
        const FIELD: &str = "up_block_types";
        let mut skips = self.skip_channels();
        let mut incoming = self.block_out_channels[self.block_out_channels.len() - 1];
        let mut norms = Vec::new();
        for (&kind, &out) in self.up_block_types.iter().zip(self.block_out_channels.iter().rev()) {
            for _ in 0..=self.layers_per_block {
                let skip = skips.pop().unwrap_or(0);
                norms.push(if kind.skips() {
                    (FIELD, incoming + skip, skip_groups_joined(incoming, skip, kind.attends()))
                } else {
                    self.plain_norm(FIELD, incoming + skip)
                });
                incoming = out;
            }
            if kind.skips() {
                norms.push((FIELD, out, skip_groups(out)));
            }
            if kind.skips() && kind.attends() {
                norms.push((FIELD, out, ATTENTION_GROUPS));
            }
        }
        norms
    }

    fn plain_norm(&self, field: &'static str, channels: usize) -> Norm {
        match self.norm_num_groups {
            Some(groups) => ("norm_num_groups", channels, groups),
            None => (field, channels, 0),
        }
    }
}

fn fail(field: &'static str, reason: String) -> Result<(), ConfigError> {
    Err(ConfigError::Inconsistent { field, reason })
}
