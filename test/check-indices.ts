import ts from 'typescript';

/**
 * The second half of `npm run typecheck`: the files that tsconfig.indices.json names. tsc itself would also tell of what they import
 * from the rooms that are left out.
 */
const host = {
  ...ts.sys,
  onUnRecoverableConfigFileDiagnostic: (fault: ts.Diagnostic) => {
    throw new Error(ts.flattenDiagnosticMessageText(fault.messageText, '\n'));
  },
};
const config = ts.getParsedCommandLineOfConfigFile('tsconfig.indices.json', {}, host);
if (!config || config.fileNames.length === 0) throw new Error('tsconfig.indices.json names no files');
const program = ts.createProgram(config.fileNames, config.options);
const faults = config.fileNames.flatMap((file) => [...program.getSemanticDiagnostics(program.getSourceFile(file))]);
const format = {
  getCanonicalFileName: String,
  getCurrentDirectory: ts.sys.getCurrentDirectory,
  getNewLine: () => '\n',
};
process.stderr.write(ts.formatDiagnostics(faults, format));
if (faults.length > 0) process.exitCode = 1;
