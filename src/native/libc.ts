/** "glibc 2.36", "musl" or, elsewhere than on Linux, "". */
export function detectLibc(platform: string = process.platform, report: object = process.report.getReport()): string {
  if (platform !== 'linux') return '';
  const { header } = report as { header?: { glibcVersionRuntime?: string } };
  return header?.glibcVersionRuntime ? `glibc ${header.glibcVersionRuntime}` : 'musl';
}
