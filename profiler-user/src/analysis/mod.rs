//! The wait-for graph, what in it can still move, and the findings that follow. Pure: model in, model out.
