//! Statistics for honest comparisons of platforms.
