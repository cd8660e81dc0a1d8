//! Learners: a file each, a line each in the registry. What linear ones share stands in [`glm`].

pub mod decision_tree;
pub mod extra_trees;
mod forests;
pub mod glm;
pub mod gradient_boosting;
pub mod isolation_forest;
pub mod linear_regression;
pub mod logistic_regression;
pub mod random_forest;
pub mod scaling;
pub mod steps;
pub mod warm_start;
