//! Learners: a file each, a line each in the registry. What linear ones share stands in [`glm`].

pub mod glm;
pub mod linear_regression;
pub mod logistic_regression;
pub mod scaling;
pub mod steps;
