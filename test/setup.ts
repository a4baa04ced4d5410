import fc from 'fast-check';

// Local runs explore with new random inputs every time; a run that decides on a change has to be repeatable.
if (process.env.CI) fc.configureGlobal({ seed: 20240530 });
