//! Reports of a journal in which everything is known in advance.

mod contrast;
mod found;
mod literature;
mod machine;
mod opening;
mod page;
mod place;
mod trial;
