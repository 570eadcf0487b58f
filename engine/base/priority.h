/* How much a thread's wish for a processor counts against that of others, on a machine that has
 * fewer processors than threads that want one. Linux: nice values are a thread's own. */
#ifndef JUMUN_BASE_PRIORITY_H
#define JUMUN_BASE_PRIORITY_H

#include <stdbool.h>

/* The calling thread, and those that it starts from now on, at a nice value from -20 (counts most)
 * to 19. False: it is not permitted (below what it is now only with CAP_SYS_NICE or within
 * RLIMIT_NICE); nothing changed. */
bool priority_set(int nice);

/* The calling thread, and those that it starts from now on, wait for their turn when they are
 * woken: they take no processor away from a thread at work, which goes on for some milliseconds at
 * most, whosever it is and whatever its nice value. Many threads that wake each other change places
 * far less often so, and a processor that is free is taken as fast as ever. A thread that somebody
 * put under another policy than the usual one stays as it is. */
void priority_patient(void);
bool priority_is_patient(void);

/* Takes that back, and nothing else, not what the process was started under (chrt): a thread that
 * was patient is at work soon after it was woken. For one that does little at a time and has others
 * wait for it. */
void priority_prompt(void);

/* The calling thread does work that nobody waits for: it takes what others leave, in long turns,
 * and never takes a processor away from one that was just woken. `nice` as above, where
 * permitted. */
void priority_background(int nice);

#endif
