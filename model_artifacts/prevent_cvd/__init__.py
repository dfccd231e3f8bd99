"""AHA PREVENT: 10- and 30-year cardiovascular risk of adults without known cardiovascular disease."""
