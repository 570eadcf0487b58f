/* How much a thread's wish for a processor counts against that of others, on a machine that has
 * fewer processors than threads that want one. Linux: nice values are a thread's own. */
#ifndef JUMUN_BASE_PRIORITY_H
#define JUMUN_BASE_PRIORITY_H

#include <stdbool.h>

/* The calling thread, and those that it starts from now on, at a nice value from -20 (counts most)
 * to 19. False: it is not permitted (below what it is now only with CAP_SYS_NICE or within
 * RLIMIT_NICE); nothing changed. */
bool priority_set(int nice);

/* The calling thread does work that nobody waits for: it takes what others leave, in long turns,
 * and never takes a processor away from one that was just woken. `nice` as above, where
 * permitted. */
void priority_background(int nice);

#endif
