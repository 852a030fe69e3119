/** The part of the vendor's package that is used here; it brings no types of its own. */
declare module 'binary-version-reader' {
  interface ParsedModule {
    readonly crc: { readonly ok: boolean };
    /** Addresses are hex texts without 0x. */
    readonly prefixInfo: {
      readonly prefixOffset: number;
      readonly moduleStartAddy: string;
      readonly moduleEndAddy: string;
      readonly moduleVersion: number;
      readonly platformID: number;
      readonly moduleFunction: number;
      readonly moduleIndex: number;
    };
  }

  interface HalModuleParser {
    parseBuffer(file: { readonly filename: string; readonly fileBuffer: Buffer }): Promise<ParsedModule>;
  }

  const reader: { readonly HalModuleParser: new () => HalModuleParser };
  export default reader;
}
