//! Isolation forests (F. T. Liu, K. M. Ting, Z.-H. Zhou, "Isolation forest", ICDM 2008): trees that split at random; a row
//! that few splits set apart is an anomaly.
//!
//! * [`draw`]: whom a tree sees: rows with the smallest random numbers, a set that merges in any order
//! * [`grow`]: a tree from its rows, at the coordinator
//! * [`model`]: trees and what becomes of their path lengths
//! * [`rank`]: the score that a share of the training rows exceeds
//! * [`forest`]: runs them as an [`crate::algorithm::Algorithm`]

pub mod draw;
pub mod forest;
pub mod grow;
pub mod model;
pub mod rank;
