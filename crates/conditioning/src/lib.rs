//! ControlNets for Burn, for Stable Diffusion's U-Nets and for SD3.
