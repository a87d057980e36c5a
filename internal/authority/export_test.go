package authority

// Unsettled is for the tests that arrange what a crash leaves behind.
const Unsettled = unsettled
