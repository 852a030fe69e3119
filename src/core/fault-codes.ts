/**
 * Of each code: who is to blame, whether trying again is of use (never, now: by the program itself, replug: after a
 * hand has unplugged the device, later: with a later run), and the hint that says what the hand should do.
 */
interface FaultEntry {
  readonly blame: 'device' | 'station' | 'operator' | 'cloud' | 'program';
  readonly retry: 'never' | 'now' | 'replug' | 'later';
  readonly hint: string;
}

export const FAULTS = {
  // identity
  NOT_SEEN: {
    blame: 'station',
    retry: 'later',
    hint: 'put the device into DFU mode (hold SETUP, tap RESET, wait for blinking yellow) and run again',
  },
  IDENTITY_UNKNOWN: {
    blame: 'operator',
    retry: 'later',
    hint: 'its old bootloader hides the ID: name its socket in the `port` column of the manifest',
  },
  IDENTITY_DUPLICATE: {
    blame: 'station',
    retry: 'replug',
    hint: 'two devices claim one ID: unplug both, and plug them in one at a time to see which lies',
  },
  IDENTITY_MISMATCH: {
    blame: 'operator',
    retry: 'later',
    hint: 'the sources of its ID disagree: check the `port` column and the socket; nothing was written',
  },
  IDENTITY_CHANGED: {
    blame: 'station',
    retry: 'later',
    hint: 'another device was plugged into this socket meanwhile: run again',
  },
  DEVICE_UNEXPECTED: {
    blame: 'device',
    retry: 'never',
    hint: 'it is not a Photon or P1 in DFU mode as this program knows them: take it off the rack',
  },
  QUARANTINED: {
    blame: 'device',
    retry: 'never',
    hint: 'it failed too often: look at it (`photon-fleet history ID`), then `photon-fleet release ID` lets it take part again',
  },
  SOCKET_BAD: {
    blame: 'station',
    retry: 'later',
    hint: 'put the device into another socket and run again; look at this one’s cable, hub and power',
  },
  ENTER_DFU_REFUSED: {
    blame: 'device',
    retry: 'later',
    hint: 'switch it by hand: hold SETUP, tap RESET, wait for blinking yellow; then `run --retry-failed`',
  },
  ENTER_DFU_LOST: {
    blame: 'device',
    retry: 'later',
    hint: 'it was told to start in DFU mode and did not come back: replug it, switch it by hand (hold SETUP, tap RESET, wait for blinking yellow), then `run --retry-failed`',
  },
  NOT_RUNNING: {
    blame: 'device',
    retry: 'later',
    hint: 'its key is written and verified, but its firmware does not start: look at its LED, and flash its system parts',
  },
  // DFU and the DCT
  DFU_NOT_IDLE: {
    blame: 'device',
    retry: 'replug',
    hint: 'replug the device, enter DFU mode again, then `run --retry-failed`',
  },
  DEVICE_LEAVING: {
    blame: 'station',
    retry: 'later',
    hint: 'it is on its way out of DFU mode: wait for its reset, enter DFU mode again, and run again',
  },
  DFU_PROTOCOL: {
    blame: 'device',
    retry: 'replug',
    hint: 'replug the device, enter DFU mode again, then `run --retry-failed`',
  },
  READ_FAILED: {
    blame: 'device',
    retry: 'replug',
    hint: 'replug the device, enter DFU mode again, then `run --retry-failed`',
  },
  READ_UNSTABLE: {
    blame: 'device',
    retry: 'replug',
    hint: 'two reads of the same bytes differ: try another cable and socket; a device that does it again is bad',
  },
  DCT_UNREADABLE: {
    blame: 'device',
    retry: 'later',
    hint: 'its system firmware is damaged: `run --job repair` flashes system-part1 and system-part2 (name the files in `firmware:` of the configuration)',
  },
  FIRMWARE_WRONG_PLATFORM: {
    blame: 'operator',
    retry: 'never',
    hint: 'nothing was written: Photons and P1s take modules of their own; work on each kind with a job of its own',
  },
  FIRMWARE_DEPENDENCY: {
    blame: 'operator',
    retry: 'never',
    hint: 'nothing was written: give both system parts of one release, and a user part that was built for it',
  },
  RESET_NEEDED: {
    blame: 'station',
    retry: 'later',
    hint: 'hold SETUP, tap RESET, let go when the LED blinks yellow (magenta comes first: hold on), and run again; --enter-dfu does it without a hand',
  },
  WRITE_FAILED: {
    blame: 'device',
    retry: 'replug',
    hint: 'the flash refused the write: replug the device, then `run --retry-failed`',
  },
  VERIFY_MISMATCH: {
    blame: 'device',
    retry: 'later',
    hint: 'what was read back is not what was written: `run --retry-failed`; a device that does it twice is bad',
  },
  LEAVE_FAILED: { blame: 'device', retry: 'later', hint: 'tap RESET on the device; its key is written and verified' },
  ROLLBACK_FAILED: {
    blame: 'device',
    retry: 'later',
    hint: 'the old keys are not back yet: leave the device in DFU mode and run again, which finishes the roll-back',
  },
  ROLLBACK_CONFLICT: {
    blame: 'operator',
    retry: 'never',
    hint: 'neither the old nor the new bytes are on the device: look at its history; `run --again --only ID` gives it a fresh key, `restore ID` puts a backup back',
  },
  SESSION_DEADLINE: {
    blame: 'device',
    retry: 'replug',
    hint: 'the device takes far too long: replug it, then `run --retry-failed`',
  },
  UNFINISHED_WRITE: {
    blame: 'operator',
    retry: 'later',
    hint: 'what was cut short is still on record: run that job, or the same `restore`, again first, which finishes it',
  },
  KEY_UNUSABLE: { blame: 'program', retry: 'now', hint: 'run again: a fresh key will be made' },
  SEND_IN_FLIGHT: {
    blame: 'station',
    retry: 'later',
    hint: 'an older key of this device is on its way to the cloud by another process: run again when that is through',
  },
  // USB
  USB_GONE: {
    blame: 'station',
    retry: 'replug',
    hint: 'the device left the bus: check cable, hub and power, and run again',
  },
  USB_TIMEOUT: {
    blame: 'device',
    retry: 'replug',
    hint: 'the device does not answer: replug it, then `run --retry-failed`',
  },
  USB_ACCESS: {
    blame: 'station',
    retry: 'now',
    hint: 'this user may not open the device: install the udev rule that `photon-fleet doctor` prints',
  },
  USB_BUSY: { blame: 'station', retry: 'now', hint: 'another program holds the device: close it and run again' },
  USB_STALL: {
    blame: 'device',
    retry: 'replug',
    hint: 'the device refused a request: replug it, then `run --retry-failed`',
  },
  USB_IO: { blame: 'station', retry: 'replug', hint: 'the transfer failed: check cable, hub and power, and run again' },
  USB_UNAVAILABLE: {
    blame: 'station',
    retry: 'never',
    hint: 'this machine has no USB that can be used: try `--sim 4`, or `--rack HOST:PORT` for devices on another machine',
  },
  DESCRIPTOR_INVALID: {
    blame: 'device',
    retry: 'replug',
    hint: 'its USB descriptors make no sense: replug it; a device that does it again is bad',
  },
  STOPPED: {
    blame: 'operator',
    retry: 'later',
    hint: 'look at what failed (`photon-fleet status`), mend it, and run the same command again',
  },
  INTERRUPTED: { blame: 'operator', retry: 'later', hint: 'run the same command again: it goes on where it stopped' },
  // cloud
  CLOUD_REFUSED: {
    blame: 'cloud',
    retry: 'later',
    hint: 'the cloud does not take a key for this device from this account: claim it, then `run --retry-failed`',
  },
  CLOUD_KEY_UNCERTAIN: {
    blame: 'cloud',
    retry: 'later',
    hint: 'the cloud may hold the refused key: claim the device, then `run --retry-failed` gives it a fresh one, or `restore ID` an old one',
  },
  HANDSHAKE_REFUSED: {
    blame: 'cloud',
    retry: 'later',
    hint: 'the device can’t connect as it is: put the right server key on it (job `server-key`), or `run --retry-failed` gives it a fresh key',
  },
  CLAIM_UNAVAILABLE: {
    blame: 'station',
    retry: 'later',
    hint: 'the cloud gave no claim code; nothing was written: run again',
  },
  CLAIM_REFUSED: {
    blame: 'cloud',
    retry: 'later',
    hint: 'the cloud gives this account no claim code for this device; nothing was written: check the account and the product, then `run --retry-failed`',
  },
  CLAIM_INVALID: {
    blame: 'operator',
    retry: 'later',
    hint: 'what answers there gives no claim codes; nothing was written: check `cloud.url`, then run again',
  },
  CLOUD_UNAUTHORIZED: {
    blame: 'operator',
    retry: 'later',
    hint: 'the access token is refused: put a fresh one into PARTICLE_ACCESS_TOKEN, then `photon-fleet replay`',
  },
  CLOUD_INSECURE: {
    blame: 'operator',
    retry: 'never',
    hint: 'use https://, or set `cloud.insecure: true` in the configuration if this network is yours alone',
  },
  TOKEN_MISSING: {
    blame: 'operator',
    retry: 'later',
    hint: 'set PARTICLE_ACCESS_TOKEN or `cloud.tokenFile`, or add --offline to keep the sends for `replay`',
  },
  // input
  USAGE: { blame: 'operator', retry: 'never', hint: 'see `photon-fleet --help`' },
  MANIFEST_INVALID: { blame: 'operator', retry: 'never', hint: 'correct the lines and run again; nothing was touched' },
  MANIFEST_UNREADABLE: {
    blame: 'operator',
    retry: 'never',
    hint: 'check the path and the permissions of the manifest',
  },
  CONFIG_INVALID: { blame: 'operator', retry: 'never', hint: 'config.example.yaml shows every key with its default' },
  CONFIG_UNREADABLE: { blame: 'operator', retry: 'never', hint: 'check the path and the permissions of the file' },
  JOB_INVALID: {
    blame: 'operator',
    retry: 'never',
    hint: 'the jobs that come with the program are in its folder jobs/',
  },
  JOB_NOT_FOUND: {
    blame: 'operator',
    retry: 'never',
    hint: 'name one of the jobs that come with it (rekey, repair, provision, backup, server-key), or a YAML file by its path',
  },
  SERVER_KEY_INVALID: {
    blame: 'operator',
    retry: 'never',
    hint: 'the firmware takes an RSA-2048 public key with e = 65537 only, as PEM or DER (SPKI)',
  },
  FIRMWARE_INVALID: {
    blame: 'operator',
    retry: 'never',
    hint: 'nothing was touched: take the file of that very part and platform from a Device OS release, as it was published',
  },
  RACK_UNREACHABLE: {
    blame: 'station',
    retry: 'later',
    hint: 'start `usbipd` there (or `photon-fleet sim rack`), and check address and port',
  },
  RACK_PROTOCOL: { blame: 'station', retry: 'later', hint: 'what answers there is no USB/IP server of version 1.1.1' },
  RACK_INSECURE: {
    blame: 'operator',
    retry: 'never',
    hint: 'USB/IP has neither password nor encryption: tunnel it (`ssh -L`), or add --insecure-rack if the network is yours alone',
  },
  PORT_IN_USE: { blame: 'operator', retry: 'never', hint: 'choose another port with --listen, or 0 for any free one' },
  SIM_STATE_INVALID: { blame: 'operator', retry: 'never', hint: 'name an empty folder, or one that `sim rack` made' },
  // record
  DB_UNREADABLE: { blame: 'station', retry: 'never', hint: 'check the path and the permissions of the database' },
  DB_FOREIGN: {
    blame: 'operator',
    retry: 'never',
    hint: 'the file belongs to something else: name another one with --db',
  },
  DB_NEWER: { blame: 'operator', retry: 'never', hint: 'a newer photon-fleet wrote this database: use that one' },
  DB_FAILED: {
    blame: 'station',
    retry: 'later',
    hint: 'check that the disk has room and can be written, then run again',
  },
  STATION_BUSY: {
    blame: 'operator',
    retry: 'later',
    hint: 'wait until the other run ends, or stop it with Ctrl-C; reading commands and `replay` work meanwhile',
  },
  RECORD_INVALID: {
    blame: 'station',
    retry: 'never',
    hint: 'keep a copy of the database and go back to the last good backup',
  },
  VAULT_IDENTITY: {
    blame: 'station',
    retry: 'never',
    hint: 'put the identity file back that this database was sealed to; without it no backup can be opened',
  },
  VAULT_SEALED_WRONG: {
    blame: 'station',
    retry: 'never',
    hint: 'the sealed item does not belong to its row, or was damaged: keep the database as it is and restore a copy',
  },
  VAULT_POLICY: {
    blame: 'operator',
    retry: 'never',
    hint: 'the configuration says another vault than this database was sealed with: set it back, or `photon-fleet vault rewrap`',
  },
  VAULT_RECIPIENT: {
    blame: 'operator',
    retry: 'never',
    hint: 'name age recipients (age1…) in `vault.recipients`; `age-keygen` makes an identity and prints its recipient',
  },
  VAULT_CLOSED: {
    blame: 'operator',
    retry: 'later',
    hint: 'this station can seal and not open: name the identity of a recipient with --identity FILE',
  },
  RECORD_JOURNAL: {
    blame: 'station',
    retry: 'never',
    hint: 'the record is not what it was: keep it as it is, and compare it with a checkpoint and a copy kept elsewhere',
  },
  RECORD_BEHIND: {
    blame: 'station',
    retry: 'never',
    hint: 'this database is older than its checkpoint: put the newest copy back, or name another folder in `audit.checkpointDir`',
  },
  CHECKPOINT_INVALID: {
    blame: 'station',
    retry: 'never',
    hint: 'the checkpoint is damaged or not signed by this station: compare it with a copy kept elsewhere',
  },
  SIGNING_KEY: {
    blame: 'station',
    retry: 'never',
    hint: 'put the signing key back that this database is bound to, or check the permissions of its folder',
  },
  KEY_NOT_FOUND: { blame: 'operator', retry: 'never', hint: '`photon-fleet history ID` lists the keys of a device' },
  BACKUP_NOT_FOUND: {
    blame: 'operator',
    retry: 'never',
    hint: '`photon-fleet history ID` lists the backups of a device',
  },
  FILE_UNWRITABLE: {
    blame: 'operator',
    retry: 'never',
    hint: 'name a file that is not there yet, in a folder that you may write to',
  },
  RUN_NOT_FOUND: {
    blame: 'operator',
    retry: 'never',
    hint: '`photon-fleet status` without a number shows the newest run',
  },
  DEVICE_NOT_FOUND: { blame: 'operator', retry: 'never', hint: 'check the ID, and that --db names the right database' },
  SEND_NOT_FOUND: { blame: 'operator', retry: 'never', hint: '`photon-fleet outbox` lists every send and its state' },
  BUG: { blame: 'program', retry: 'never', hint: 'this is a bug: please report it with the line above' },
} as const satisfies Record<string, FaultEntry>;

export type FaultCode = keyof typeof FAULTS;
