"""What a score is: functions of arrays, each of one protocol, with its formula and source."""
