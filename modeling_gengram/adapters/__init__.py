"""What PEFT has to know about the models here."""
