/* Ctrl-C and SIGTERM (SIGHUP too) for commands that have something to give back first. The first
 * signal is noted, a second one ends the process at once. */
#ifndef JUMUN_CLI_CLI_STOP_H
#define JUMUN_CLI_CLI_STOP_H

#include <stdbool.h>

/* From now on signals are noted. */
void cli_stop_catch(void);
/* Whether one came. Any thread. */
bool cli_stop_asked(void);
/* Ends the process by the signal that came, as if it had not been caught; returns when none did. */
void cli_stop_obey(void);

#endif
