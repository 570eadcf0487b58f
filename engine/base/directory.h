/* Directories as a part of durability: what was made, renamed or unlinked in one is on the disk
 * only once the directory itself is (fsync(2)). Blocks for the disk; any thread. */
#ifndef JUMUN_BASE_DIRECTORY_H
#define JUMUN_BASE_DIRECTORY_H

/* 0, or the error number, which errno has too. */
int directory_sync(const char *path);

#endif
