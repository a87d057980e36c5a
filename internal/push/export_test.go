package push

// Ambiguity is a door of the tests.
var Ambiguity = ambiguity
