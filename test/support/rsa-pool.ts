import type { RsaPrivateNumbers } from '#src/keys/rsa-numbers.ts';

/*
 * RSA-1024 keys by the hundred without the time that a generator takes: every ordered pair of these primes makes one.
 * The first ones were searched for, so that each number that can be short is short in some key.
 */

const A =
  0xf5e29969105bb9cc659a8cdfadee2ade2b2535e598f9c93e292471efae18fe8d6cfdff641cc7dca008233a7a58cb6f97cc5b1a631bf740c6ea72165fa374bf23n;
/** dP has 503 bits: 63 bytes, and none before them in DER. */
const SHORT_DP =
  0xc03a0955f08b882622a4f64f6ab83c11db26da6b0313dea14bcfc5c34ad9cf35b8edfef7f6eb3eb5b2f34a4457206bfcba49c4a531714ce8252886ff25aa6f99n;
/** dP has 504 bits: 63 bytes, before which DER puts a zero. */
const ZERO_BEFORE_DP =
  0xc01ae7cfde080fb7df0914dd14385092d1a71dae480f6348d9135a43226ab16218e0da2f37e210c945206e2e624a3d7074f08e18c2d2984efd0edf96c8517331n;
/** With A: D has 1014 bits. */
const SHORT_D =
  0xc06136b4e833e91d2d46f9aad8d8b8f3f9d5bf84a749633a10fa2706eb1221e1ca2c653a55a9aec356bb4a617345dde11d55565bc2c894861d1e373b17dab75dn;
/** With A: D has 1008 bits, two bytes less than it could have. */
const SHORTER_D =
  0xc06b06e40cc1f3018760de1c7b74f9f5319e6f087307005d798b218f4c41114ba1885b0e1bae44bd34b7d5207155a32621e90813bc6a0e632aa087c088a821c1n;
/** After A: qInv has 500 bits. */
const SHORT_QINV =
  0xeef6e41606859012f1b4bf0f5418d1d9de397eb0f28b972cf5b362ef099542f8e5024214dafe110a221682df94c25663cdf9178f67ed09c1613e50bbadb4eafbn;
/** After A: qInv has 490 bits, two bytes less than it could have. */
const SHORTER_QINV =
  0xd0de389cc2029c801fa9957f938047c752002f240a986d950ad5ab463f868a2d97d738fc116b2d39466695747200f8b58808cde8e49ee518fbec5738de52855fn;

/** With A: no number is short. */
const FULL =
  0xcd5c30ca26d3eae9a3f82e47e7d263afce0689ff9f822699beea0c4fb5091161905c95e15bf6f43cd0124d11a1bd5ecf62f9f634e42052a0b7877eae23c0bf35n;

const PRIMES: readonly bigint[] = [
  A,
  SHORT_DP,
  ZERO_BEFORE_DP,
  SHORT_D,
  SHORTER_D,
  SHORT_QINV,
  SHORTER_QINV,
  FULL,
  0xd036026314b14617a79f77d8814494cc061a39ea2a23d6ff3f04477075b5aad00a4df8cc23696cea48a33e09af8e975379b32d6d3f20d5b2b7128470dab2c785n,
  0xc9600a359a07ed2767fa09c4763d2c13b523a76f6b55102f2675ac7e1de195f609c08dc5187c0deaec6255b4f093ca6b4ce530997e146774a21d2e2d398662b3n,
  0xc7192396f66ebd22ff5f3c29f3bc1dcf945f1572ec03fcb6c990ff432248a37797b6e38c4cd69f5e2487e08b9645ff07cf8164a8f9ed3fd1d92f6c8fc5b01c5bn,
  0xd4ffe930c89b74f9e5e4a180e9f1a8972cf4c2f528367ca33dea4bfa6025618e7d461f79c0e5e7bb84dbe4b99204ce609eab144442957b7ca2fbeae0665f14a5n,
  0xedc3aa522a3a490a2cb9ab423ca135e5e447d0f06ed2a610bb091728f7dd9e6ac384f398bec59a256d24db3efb3ac622f35e5824756152cfa9a9aac894af301fn,
  0xd267645639a627952ad07c5df257a0dc36334c5cab2cdc30250c2e3da471079d2da8b2546c2518a1a323a5824730e75d1cbd73a12a592c72e183475de8b7f87bn,
  0xc7124a4234aeaa89e7a5e9bf1cb9cd6d126839ce232e65f7c83b64935c71e48c5940b83359884787ac52a3563e466997fab90493a8e42040c0321d2ed78254efn,
  0xd71e795c1eab56f2eba79cb64bc3d8d556999264b46e3bc3a86f2d10b9e53b07da9e85095dd9e6500da7722064096c7ce4a281841c55ddb2e7bd21cd5c0a927bn,
  0xc4c6caa201ae5ddead43281ea0089b075d706258f6d40883bfc0d89b39782b6b5d7c822d6d8fd36e2c8e3d56180a3b1fe5ff82cf60c656922f3bb722ff745463n,
  0xc5b4cea840991788c335f4e538f0cf0d41dc5474967c9321e3d761e85ca2008663567d9927fad42b4cfb52bbe666a88ba83bd3b55cbfba3798eca8cf9ce00d2bn,
  0xc01263193c3fcb98b10c3d13110899947cd8bb39b1ac9b0acf294aa8f6ba435bcb7dfb257c42dfba854a41a0aa4959f69b9d0044d172f4fb06d71839280ed673n,
  0xc58387a835487bc28a06cdaf8798d771d523534d72dac31e18ca8bfa655c94caf53f7fc3fe800e06eb03521a27a22942e4f83cb03463acc5d75eecac2fc53fafn,
  0xffdbae04e2e602f11f63e19f1037b8717f8f26c8e42b74634fa5f79e5e44ed1dd126fe8f75c8a476bea2b053257910db4f14744fd7f797de73b586eac4e87045n,
];

const E = 65537n;

export function inverse(a: bigint, modulus: bigint): bigint {
  let [r0, r1, t0, t1] = [modulus, a % modulus, 0n, 1n];
  while (r1 !== 0n) {
    const quotient = r0 / r1;
    [r0, r1, t0, t1] = [r1, r0 - quotient * r1, t1, t0 - quotient * t1];
  }
  return ((t0 % modulus) + modulus) % modulus;
}

export function rsaOf(p: bigint, q: bigint, e = E): RsaPrivateNumbers {
  const d = inverse(e, (p - 1n) * (q - 1n));
  return { n: p * q, e, d, p, q, dp: d % (p - 1n), dq: d % (q - 1n), qp: inverse(q, p) };
}

/** No number of it is short. */
export const ORDINARY = rsaOf(A, FULL);

/** Keys with one short number, by the number. */
export const SHORT = {
  d: rsaOf(A, SHORT_D),
  'd, by two bytes': rsaOf(A, SHORTER_D),
  dp: rsaOf(SHORT_DP, A),
  dq: rsaOf(A, SHORT_DP),
  qp: rsaOf(A, SHORT_QINV),
  'qp, by two bytes': rsaOf(A, SHORTER_QINV),
} as const satisfies Record<string, RsaPrivateNumbers>;

/** DER puts a zero before its dP, which is a byte short all the same: the firmware reads it as it should. */
export const SHORT_AND_READABLE = rsaOf(ZERO_BEFORE_DP, A);

export function allKeys(): RsaPrivateNumbers[] {
  return PRIMES.flatMap(p => PRIMES.filter(q => q !== p).map(q => rsaOf(p, q)));
}

function tlv(tag: number, content: Uint8Array): Buffer {
  const { length } = content;
  const head = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...head]), content]);
}

/** X.690, 8.3: the shortest form, with a zero where the number would look negative. */
function integer(value: bigint): Buffer {
  const hex = value.toString(16);
  const bytes = Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex');
  return tlv(0x02, (bytes[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.of(0), bytes]) : bytes);
}

/** PKCS#1 as every ordinary tool writes it: leading zeros dropped. */
export function ordinaryDer({ n, e, d, p, q, dp, dq, qp }: RsaPrivateNumbers): Buffer {
  return tlv(0x30, Buffer.concat([0n, n, e, d, p, q, dp, dq, qp].map(integer)));
}

/** `bytes` at the beginning of a field of `length` bytes, filled up with `filler`. */
export function inField(bytes: Uint8Array, filler = 0xff, length = 1216): Buffer {
  const field = Buffer.alloc(length, filler);
  field.set(bytes.subarray(0, length));
  return field;
}
