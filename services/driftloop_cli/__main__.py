from driftloop_cli.main import main

main()
